/** The machines, by node-exporter. */
import type { Dashboard } from './grafana.ts'
import { curves, figure, table } from './panels.ts'

const OF = 'instance=~"$instance"'
const DISK = `${OF},fstype!~"tmpfs|overlay|squashfs|ramfs|fuse.*|nfs.*"`
const NIC = `${OF},device!~"lo|veth.*|docker.*|br-.*"`
const rate = (metric: string, of = OF): string => `rate(${metric}{${of}}[$__rate_interval])`

export const HOSTS: Dashboard = {
  name: 'hosts',
  title: 'Hosts',
  about: 'CPU, memory, disks, network and clocks of the nodes.',
  instances: 'node_uname_info',
  rows: [
    {
      title: 'Now',
      panels: [
        figure(
          { title: 'CPU', unit: 'percentunit', about: 'In use.' },
          [
            `1 - avg by (instance) (${rate('node_cpu_seconds_total', `${OF},mode="idle"`)})`,
            '{{instance}}',
          ],
          { limits: [0.7, 0.9], width: 8 },
        ),
        figure(
          { title: 'Memory left', unit: 'percentunit', about: 'Available without swapping.' },
          [
            `node_memory_MemAvailable_bytes{${OF}} / node_memory_MemTotal_bytes{${OF}}`,
            '{{instance}}',
          ],
          { limits: [0.15, 0.08], width: 8 },
        ),
        figure(
          { title: 'Space left', unit: 'percentunit', about: 'On the fullest file system.' },
          [
            `min by (instance) (node_filesystem_avail_bytes{${DISK}} / node_filesystem_size_bytes{${DISK}})`,
            '{{instance}}',
          ],
          { limits: [0.15, 0.05], width: 8 },
        ),
        table(
          { title: 'Machines', unit: 'short', about: 'Kernel and name.' },
          `max by (instance, nodename, release) (node_uname_info{${OF}})`,
        ),
        table(
          { title: 'File systems', unit: 'bytes', about: 'What is free of each.' },
          `min by (instance, mountpoint, device) (node_filesystem_avail_bytes{${DISK}})`,
        ),
      ],
    },
    {
      title: 'CPU and memory',
      panels: [
        curves(
          { title: 'CPU by kind', unit: 'percentunit', about: 'Of all cores.' },
          [
            [
              `sum by (instance, mode) (${rate('node_cpu_seconds_total', `${OF},mode!="idle"`)}) / on (instance) group_left count by (instance) (node_cpu_seconds_total{${OF},mode="idle"})`,
              '{{instance}} {{mode}}',
            ],
          ],
          { isStacked: true, max: 1 },
        ),
        curves({ title: 'Load', unit: 'short', about: 'Over five minutes.' }, [
          [`node_load5{${OF}}`, '{{instance}}'],
        ]),
        curves(
          { title: 'Memory in use', unit: 'bytes', about: 'Without what can be given back.' },
          [
            [
              `node_memory_MemTotal_bytes{${OF}} - node_memory_MemAvailable_bytes{${OF}}`,
              '{{instance}}',
            ],
          ],
        ),
        curves(
          {
            title: 'Waiting for CPU, disk and memory',
            unit: 'percentunit',
            about: 'Share of time in which some task waited (PSI).',
          },
          [
            [rate('node_pressure_cpu_waiting_seconds_total'), '{{instance}} CPU'],
            [rate('node_pressure_io_waiting_seconds_total'), '{{instance}} disk'],
            [rate('node_pressure_memory_waiting_seconds_total'), '{{instance}} memory'],
          ],
        ),
      ],
    },
    {
      title: 'Disks and network',
      panels: [
        curves({ title: 'Bytes left', unit: 'bytes', about: 'By file system.' }, [
          [`node_filesystem_avail_bytes{${DISK}}`, '{{instance}} {{mountpoint}}'],
        ]),
        curves(
          {
            title: 'Disks busy',
            unit: 'percentunit',
            about: 'Share of time with a request under way.',
          },
          [[rate('node_disk_io_time_seconds_total'), '{{instance}} {{device}}']],
          { limits: [0.8, 0.95] },
        ),
        curves({ title: 'Read and written', unit: 'Bps', about: 'By disk.' }, [
          [rate('node_disk_read_bytes_total'), '{{instance}} {{device}} read'],
          [rate('node_disk_written_bytes_total'), '{{instance}} {{device}} written'],
        ]),
        curves(
          { title: 'Time of a write', unit: 's', about: 'Mean. etcd and commits wait for it.' },
          [
            [
              `${rate('node_disk_write_time_seconds_total')} / ${rate('node_disk_writes_completed_total')}`,
              '{{instance}} {{device}}',
            ],
          ],
        ),
        curves({ title: 'Network', unit: 'Bps', about: 'Without loopback and bridges.' }, [
          [rate('node_network_receive_bytes_total', NIC), '{{instance}} {{device}} in'],
          [rate('node_network_transmit_bytes_total', NIC), '{{instance}} {{device}} out'],
        ]),
        curves({ title: 'Clock off by', unit: 's', about: 'As the kernel estimates it.' }, [
          [`abs(node_timex_offset_seconds{${OF}})`, '{{instance}}'],
        ]),
      ],
    },
  ],
}
