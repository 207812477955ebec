"""The FastAPI + asyncpg peer: the same two routes, the same SQL, the same door and RLS, the same token check
(with the same signature cache), the same sealed idempotency record, one JSON log line a request."""
import base64
import hashlib
import json
import os
import sys
import time
import uuid
from datetime import datetime, timezone

import asyncpg
import jwt
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import FastAPI, Request
from fastapi.responses import Response

S = {k: v["text"] for k, v in json.load(open(os.environ["BENCH_STATEMENTS"])).items()}
KEY = jwt.PyJWK(json.loads(os.environ["BENCH_JWKS"])["keys"][0]).key
SEAL = AESGCM(b"0" * 32)
app, pool, system, verified = FastAPI(), None, None, {}
log = os.fdopen(2, "w", buffering=1 << 16)


@app.on_event("startup")
async def start():
    global pool, system
    system = await asyncpg.create_pool(host=os.environ["BENCH_SOCKET"], database="trunkline", user="tl_system", min_size=1, max_size=1)
    pool = await asyncpg.create_pool(host=os.environ["BENCH_SOCKET"], database="trunkline", user="tl_app", min_size=8, max_size=8)


async def principal(request):
    token = request.headers.get("authorization", "")[7:]
    claims = verified.get(token)
    if claims is None:
        claims = jwt.decode(token, KEY, ["EdDSA"], audience="trunkline", issuer="trunkline-dev")
        async with system.acquire() as db:	# whom the token means: once, where we ask again every five seconds
            claims["user_id"] = (await db.fetchrow(S["principal_find"], claims["iss"], claims["sub"], claims["agency_id"],
                                                   claims["client_id"]))["user_id"]
        verified[token] = claims
    if claims["exp"] < time.time():
        raise PermissionError
    return claims


def now():
    return datetime.now(timezone.utc).isoformat()


def plain(value):
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    raise TypeError(type(value))


def row_json(row):
    data = {k: v for k, v in row.items() if k != "cursor_us"}
    for field in ("context", "call_settings"):
        data[field] = json.loads(data[field])
    return data


def answer(data, request_id, status=200):
    body = json.dumps({"data": data, "meta": {"request_id": request_id, "ts": now()}}, default=plain)
    return Response(body, status, {"X-Request-Id": request_id}, "application/json")


def log_line(request, request_id, claims, status, started):
    log.write(json.dumps({"timestamp": now(), "level": "info", "message": "request", "request_id": request_id,
                          "client_id": claims["client_id"], "method": request.method, "route": request.url.path,
                          "status_code": status, "duration_ms": (time.perf_counter() - started) * 1000}) + "\n")


async def enter(db, claims, request_id):
    return await db.fetchrow(S["door_tenant"], claims["agency_id"], claims["client_id"], claims["user_id"], None, now(), request_id, "")


@app.get("/api/v1/calls/{call_id}")
async def read(call_id: uuid.UUID, request: Request):
    started, claims, request_id = time.perf_counter(), await principal(request), str(uuid.uuid4())
    async with pool.acquire() as db, db.transaction():
        await enter(db, claims, request_id)
        row = await db.fetchrow(S["calls_get"], call_id)
    response = answer(row_json(row), request_id)
    log_line(request, request_id, claims, 200, started)
    return response


@app.post("/api/v1/calls")
async def create(request: Request):
    started, claims, request_id = time.perf_counter(), await principal(request), str(uuid.uuid4())
    raw = await request.body()
    body, key = json.loads(raw), request.headers["idempotency-key"]
    print_ = hashlib.sha256(b"\0".join([claims["sub"].encode(), b"POST", b"/api/v1/calls", raw])).digest()
    call, hold, job, event = (uuid.uuid4() for _ in range(4))
    async with pool.acquire() as db, db.transaction():
        await enter(db, claims, request_id)
        judged = await db.fetchrow(S["idem_judge"], print_, claims["client_id"], key)
        assert judged["state"] == "new"
        p = await db.fetchrow(S["calls_prospect"], body["phone_number"], body["agent_id"])
        price, minutes = p["price_per_minute"], 60
        if p["available"] // price < minutes:
            minutes = p["available"] // price
        settings = json.dumps({"recording_enabled": True, "transcription_enabled": True, "max_duration_seconds": 3600})
        await db.execute(S["calls_insert"], call, body["agent_id"], None, body["phone_number"], "+15005550006", "outbound", "phone", None,
                         settings, price, hold, minutes * price, 3600)
        row = await db.fetchrow(S["calls_get"], call)
        response = answer(row_json(row), request_id, 202)
        await db.execute(S["job_insert"], job, "q-campaign-dialer", "call.dial", "{}", "call", call, None, 0, None)
        await db.execute(S["calls_admit"], call, hold, minutes * price, price, p["quota"])
        await db.execute(S["event_put"], event, "call.created", "call", call, json.dumps({"call_id": str(call), "status": "queued"}))
        nonce = os.urandom(12)
        await db.execute(S["idem_put"], claims["client_id"], key, print_, "done", 202, nonce + SEAL.encrypt(nonce, response.body, b""), 60000)
    log_line(request, request_id, claims, 202, started)
    return response
