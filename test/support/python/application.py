"""
An application of SQLAlchemy, with its own pool of connections, that knows one thing about failovers:
SQLSTATE 40001 means run the transaction again. It writes until its standard input ends, and prints
what became of everything as JSON.
"""
import json
import os
import sys
import threading
import time

from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import DBAPIError

WORKERS = 4
PACE_S = 0.02

engine = create_engine(os.environ["DSN"], pool_size=WORKERS, max_overflow=0)
prefix = os.environ["PREFIX"]
stopping = threading.Event()
result = {"acknowledged": [], "unknown": [], "retried": 0, "connections": 0, "errors": []}


@event.listens_for(engine, "connect")
def connected(*_):
    result["connections"] += 1


def write(name):
    with engine.begin() as connection:
        connection.execute(text("insert into written (id) values (:id)"), {"id": name})
        connection.execute(text("select count(*) from written where id = :id"), {"id": name}).scalar()


def run(name):
    while True:
        try:
            write(name)
            result["acknowledged"].append(name)
            return
        except DBAPIError as error:
            code = error.orig.pgcode
            if code == "40001":
                result["retried"] += 1
            elif code == "08007":
                result["unknown"].append(name)
                return
            else:
                result["errors"].append(f"{code}: {error.orig}")
                return


def worker(number):
    turn = 0
    while not stopping.is_set():
        run(f"{prefix}-{number}-{turn}")
        turn += 1
        time.sleep(PACE_S)


threads = [threading.Thread(target=worker, args=(number,)) for number in range(WORKERS)]
for thread in threads:
    thread.start()
print("running", flush=True)
sys.stdin.read()
stopping.set()
for thread in threads:
    thread.join()
print(json.dumps(result))
