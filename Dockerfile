# pgsteer, built from source. The final image holds Node, the libraries that Node needs, the built
# program and its run-time packages: no shell, no package manager, about 150 MB.
#
#   docker build -t pgsteer .
#   docker run -p 6432:6432 -e PGSTEER_CLUSTER_SOURCE=etcd -e PGSTEER_CLUSTER_ETCD_HOSTS=http://etcd1:2379 ... pgsteer
#
# Pinned by tag; a build that has to be repeatable to the byte passes the digest as well:
#   --build-arg NODE_IMAGE=node:24.21.0-trixie-slim@sha256:...
ARG NODE_IMAGE=node:24.21.0-trixie-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The packages' install scripts fetch what only the checkout's own scripts use.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src src
RUN npm run build \
 && npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
 && find node_modules -type f \( -name '*.map' -o -name '*.md' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -delete
# Node, the dynamic loader and the libraries that both name, at the paths where they were linked.
RUN node --eval 'console.log(process.execPath)' >/tmp/files \
 && ldd "$(cat /tmp/files)" | grep -o '/[^ ]*' >>/tmp/files \
 && mkdir -p /root-of-image/etc/ssl/certs /root-of-image/tmp /root-of-image/etc/pgsteer \
 && xargs -I{} cp --parents --dereference {} /root-of-image/ </tmp/files \
 && chmod 1777 /root-of-image/tmp \
 && echo 'pgsteer:x:10001:10001::/:/sbin/nologin' >/root-of-image/etc/passwd \
 && echo 'pgsteer:x:10001:' >/root-of-image/etc/group \
 && echo 'hosts: files dns' >/root-of-image/etc/nsswitch.conf \
 && ln -s "$(head -n 1 /tmp/files)" /root-of-image/node

FROM scratch
COPY --from=build /root-of-image/ /
COPY --from=build /app/node_modules /app/node_modules
COPY --from=build /app/dist /app/dist
COPY package.json LICENSE /app/
COPY deploy/pgsteer.ini /etc/pgsteer/pgsteer.ini
ENV NODE_ENV=production
USER 10001:10001
EXPOSE 6432 9632
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=15s --retries=3 \
  CMD ["/node", "/app/dist/cli.js", "health", "http://127.0.0.1:9632/livez"]
ENTRYPOINT ["/node", "/app/dist/cli.js"]
CMD ["/etc/pgsteer/pgsteer.ini"]
