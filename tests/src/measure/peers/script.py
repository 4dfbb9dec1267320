"""What a good engineer writes in an afternoon to collect alerts: no daemon, one run per call.

Reads one JSON object on standard input, brings one table up to date, and prints one JSON line: how many alerts it read, and
how many rows that added or changed. Four customers at a time; each has a cursor, which moves in the transaction of its page.
"""

import asyncio
import json
import sys
from datetime import datetime, timedelta

import aiohttp
import asyncpg
import orjson

SCHEMA = """
create table if not exists alert (
    tenant  uuid not null,
    id      text not null,
    updated text not null,
    body    jsonb not null,
    primary key (tenant, id)
);
create table if not exists cursor (tenant uuid primary key, updated text not null);
"""
INCOMING = "create temporary table incoming (tenant uuid, id text, updated text, body jsonb) on commit drop"
MERGE = """
insert into alert (tenant, id, updated, body) select tenant, id, updated, body from incoming
on conflict (tenant, id) do update set updated = excluded.updated, body = excluded.body
where alert.updated is distinct from excluded.updated
"""
MOVE = "insert into cursor values ($1, $2) on conflict (tenant) do update set updated = excluded.updated"
AT_ONCE = 4
TRIES = 5


async def ask(session, method, url, **more):
    """The body of an answer; tried again where the service is busy or failing."""
    for attempt in range(1, TRIES + 1):
        async with session.request(method, url, **more) as answer:
            if attempt < TRIES and (answer.status == 429 or answer.status >= 500):
                await answer.read()
                await asyncio.sleep(float(answer.headers.get("Retry-After", 2**attempt)))
                continue
            answer.raise_for_status()
            return orjson.loads(await answer.read())


async def sign_in(session, job, tenant):
    form = {
        "grant_type": "refresh_token",
        "client_id": job["client_id"],
        "client_secret": job["client_secret"],
        "refresh_token": tenant["refresh_token"],
        "scope": job["scope"],
    }
    url = job["token_url"].replace("{tenant}", tenant["directory_id"])
    return (await ask(session, "POST", url, data=form))["access_token"]


async def store(pool, tenant, page):
    """One page and the cursor behind it, together."""
    rows = [(tenant, alert["id"], alert["lastUpdateDateTime"], orjson.dumps(alert).decode()) for alert in page]
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(INCOMING)
        await connection.copy_records_to_table("incoming", records=rows)
        status = await connection.execute(MERGE)
        await connection.execute(MOVE, tenant, rows[-1][2])
    return int(status.split()[-1])


def earlier(stamp, seconds):
    return (datetime.fromisoformat(stamp) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def collect(job, tenant, session, pool, gate):
    async with gate:
        name, read, stored = tenant["directory_id"], 0, 0
        headers = {"Authorization": f"Bearer {await sign_in(session, job, tenant)}", "Prefer": "include-unknown-enum-members"}
        cursor = await pool.fetchval("select updated from cursor where tenant = $1", name)
        since = earlier(cursor, job["overlap_seconds"]) if cursor else job["first_since"]
        question = {"$filter": f"lastUpdateDateTime ge {since}", "$orderby": "lastUpdateDateTime asc", "$top": str(job["page_size"])}
        answer = await ask(session, "GET", job["graph_url"] + "/v1.0/security/alerts_v2", params=question, headers=headers)
        while True:
            if page := answer["value"]:
                read += len(page)
                stored += await store(pool, name, page)
            link = answer.get("@odata.nextLink")
            if not link:
                return read, stored
            answer = await ask(session, "GET", link, headers=headers)


async def main():
    job = json.load(sys.stdin)
    gate = asyncio.Semaphore(AT_ONCE)
    async with asyncpg.create_pool(job["database_url"], min_size=1, max_size=AT_ONCE) as pool, aiohttp.ClientSession() as session:
        await pool.execute(SCHEMA)
        done = await asyncio.gather(*(collect(job, tenant, session, pool, gate) for tenant in job["tenants"]))
    print(json.dumps({"read": sum(read for read, _ in done), "stored": sum(stored for _, stored in done)}))


asyncio.run(main())
