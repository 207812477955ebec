"""Knowledge bases: the corpus, files by the provider's upload flow, web pages, documents that fail, questions."""
import httpx

from test_bad_input import GOOD_AGENT, error
from test_tools import there

MISSING = "00000000-0000-7000-8000-000000000000"


def base(client, **more):
    answer = client.post("/kb", {"name": "Prices", **more})
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


def upload(client, kb, *files):
    """Presigned and put; gives the documents' ids."""
    asked = client.post(f"/kb/{kb}/files/presign", {"files": [{"filename": n, "file_size": len(b)} for n, b in files]})
    assert asked.status_code == 200, asked.text
    data = asked.json()["data"]
    assert data["uploads"] == data["documents"]
    for item, (_, content) in zip(data["uploads"], files):
        put = httpx.request(item["method"], item["url"], content=content, headers=item["headers"])
        assert put.status_code == 200, put.text
    return [item["doc_id"] for item in data["uploads"]]


def documents(client, kb):
    return {d["doc_id"]: d for d in client.get(f"/kb/{kb}/documents").json()["data"]}


def test_a_base_and_its_corpus(server, client):
    row = base(client, description="What we charge")
    assert row["status"] == "ready" and row["language"] == "en-US" and row["document_counts"] == {"total": 0, "indexed": 0, "processing": 0, "failed": 0}
    corpus = there(server, "corpora", row["ultravox_corpus_id"]).json()
    assert corpus["name"] == f"{row['id']} Prices" and corpus["description"] == "What we charge"
    changed = client.request("PATCH", f"/kb/{row['id']}", json={"name": "Fees", "description": None}).json()["data"]
    assert changed["name"] == "Fees" and changed["description"] is None
    assert there(server, "corpora", row["ultravox_corpus_id"]).json()["name"].endswith("Fees")
    gone = client.request("DELETE", f"/kb/{row['id']}")
    assert gone.status_code == 200 and client.get(f"/kb/{row['id']}").status_code == 404
    server.advance(5)
    assert there(server, "corpora", row["ultravox_corpus_id"]).status_code == 404
    assert [e for e in client.events() if e.startswith("knowledge")] == ["knowledge_base.created", "knowledge_base.updated", "knowledge_base.deleted"]
    error(client.post("/kb", {"name": "x", "language": "not a tag"}), 422, "validation_error")


def test_files_are_read_and_found(server, client):
    kb = base(client)["id"]
    text, broken = upload(client, kb, ("prices.txt", b"A haircut costs 30 euros"), ("broken.pdf", b"%PDF"))
    assert client.get(f"/kb/{kb}").json()["data"]["document_counts"]["total"] == 0, "not asked to be read yet"
    begun = client.post(f"/kb/{kb}/files/ingest", {"document_ids": [text, broken, text]})
    assert begun.status_code == 202, begun.text
    assert {d["doc_id"]: d["status"] for d in begun.json()["data"]["documents"]} == {text: "processing", broken: "processing"}
    row = client.get(f"/kb/{kb}").json()["data"]
    assert row["status"] == "processing" and row["document_counts"]["processing"] == 2
    error(client.request("DELETE", f"/kb/{kb}"), 422, "validation_error")
    server.advance(60)
    found = documents(client, kb)
    assert found[text]["status"] == "indexed" and found[text]["ultravox_source_id"] and found[text]["file_type"] == "text/plain"
    assert found[broken]["status"] == "processing" and client.get(f"/kb/{kb}").json()["data"]["status"] == "processing"
    server.advance(1900)
    found = documents(client, kb)
    assert found[broken]["status"] == "failed" and "30 minutes" in found[broken]["error_message"]
    row = client.get(f"/kb/{kb}").json()["data"]
    assert row["status"] == "ready" and row["document_counts"] == {"total": 2, "indexed": 1, "processing": 0, "failed": 1}
    assert [e for e in client.events() if "ingestion" in e] == ["knowledge_base.ingestion.started", "knowledge_base.ingestion.completed"]

    asked = client.post(f"/kb/{kb}/query", {"query": "haircut euros"})
    assert asked.status_code == 200, asked.text
    hit, = asked.json()["data"]["results"]
    assert hit["content"] == "A haircut costs 30 euros" and hit["doc_id"] == text and hit["file_name"] == "prices.txt" and hit["score"] == 1
    assert client.post(f"/kb/{kb}/query", {"query": "parking"}).json()["data"]["results"] == []
    assert [d["doc_id"] for d in client.get(f"/kb/{kb}/documents", params={"status": "failed"}).json()["data"]] == [broken]


def test_a_document_that_never_came_fails_alone(server, client):
    kb = base(client)["id"]
    good, = upload(client, kb, ("a.txt", b"words"))
    never = client.post(f"/kb/{kb}/files/presign", {"files": [{"filename": "b.txt", "file_size": 5}]}).json()["data"]["uploads"][0]["doc_id"]
    client.post(f"/kb/{kb}/files/ingest", {"document_ids": [good, never]})
    server.advance(60)
    found = documents(client, kb)
    assert found[good]["status"] == "indexed" and found[never]["status"] == "failed" and "never uploaded" in found[never]["error_message"]


def test_nothing_read_is_a_failure_and_can_be_tried_again(server, client):
    kb = base(client)["id"]
    doc, = upload(client, kb, ("a.txt", b"words"))
    httpx.post(server.sandbox + "/_sandbox/faults", json={"match": "POST /api/corpora/*/sources", "mode": "status", "status": 400, "times": 1})
    client.post(f"/kb/{kb}/files/ingest", {"document_ids": [doc]})
    server.advance(60)
    assert documents(client, kb)[doc]["status"] == "failed" and client.get(f"/kb/{kb}").json()["data"]["status"] == "ready"
    assert client.events()[-1] == "knowledge_base.ingestion.failed"
    again = client.post(f"/kb/{kb}/documents/{doc}/retry")
    assert again.status_code == 202 and again.json()["data"]["status"] == "processing"
    server.advance(60)
    assert documents(client, kb)[doc]["status"] == "indexed"
    error(client.post(f"/kb/{kb}/documents/{doc}/retry"), 422, "validation_error")
    error(client.post(f"/kb/{kb}/documents/{MISSING}/retry"), 404, "not_found")


def test_a_page_of_the_web(server, client):
    kb = base(client)["id"]
    added = client.post(f"/kb/{kb}/urls", {"url": "https://example.com/prices", "max_depth": 2, "max_documents": 20})
    assert added.status_code == 202, added.text
    data = added.json()["data"]
    assert data["kind"] == "url" and data["status"] == "processing" and data["url"] == "https://example.com/prices"
    server.advance(60)
    row = documents(client, kb)[data["doc_id"]]
    assert row["status"] == "indexed"
    corpus = client.get(f"/kb/{kb}").json()["data"]["ultravox_corpus_id"]
    source = there(server, "corpora", f"{corpus}/sources/{row['ultravox_source_id']}").json()
    assert source["crawl"] == {"startUrls": ["https://example.com/prices"], "maxDepth": 2, "maxDocuments": 20}
    error(client.post(f"/kb/{kb}/urls", {"url": "ftp://example.com/"}), 422, "validation_error")


def test_a_deleted_document_goes_everywhere(server, client):
    kb = base(client)["id"]
    kept, gone = upload(client, kb, ("a.txt", b"words"), ("b.txt", b"other words"))
    client.post(f"/kb/{kb}/files/ingest", {"document_ids": [kept, gone]})
    server.advance(60)
    source, corpus = documents(client, kb)[gone]["ultravox_source_id"], client.get(f"/kb/{kb}").json()["data"]["ultravox_corpus_id"]
    used = server.sql("select bytes from storage_used where client_id = %s", client.id)[0][0]
    assert client.request("DELETE", f"/kb/{kb}/documents/{gone}").status_code == 200
    server.advance(5)
    assert list(documents(client, kb)) == [kept]
    assert there(server, "corpora", f"{corpus}/sources/{source}").status_code == 404
    assert server.sql("select bytes from storage_used where client_id = %s", client.id)[0][0] == used - len(b"other words")
    error(client.request("DELETE", f"/kb/{kb}/documents/{gone}"), 404, "not_found")


def test_deleting_the_document_that_is_being_read_ends_the_reading(server, client):
    kb = base(client)["id"]
    doc, = upload(client, kb, ("a.txt", b"words"))
    client.post(f"/kb/{kb}/files/ingest", {"document_ids": [doc]})
    server.advance(5)
    corpus = client.get(f"/kb/{kb}").json()["data"]["ultravox_corpus_id"]
    client.request("DELETE", f"/kb/{kb}/documents/{doc}")
    assert client.get(f"/kb/{kb}").json()["data"]["status"] == "ready"
    server.advance(60)
    assert there(server, "corpora", f"{corpus}/sources").json()["results"] == []


def test_only_what_was_issued_here_is_read(server, client):
    kb, other = base(client)["id"], base(client)["id"]
    doc, = upload(client, kb, ("a.txt", b"words"))
    voice = client.post("/voices/files/presign", {"files": [{"filename": "a.wav", "file_size": 10}]}).json()["data"]["uploads"][0]["upload_id"]
    stranger = server.client()
    theirs = upload(stranger, base(stranger)["id"], ("a.txt", b"words"))[0]
    for kb_id, ids in ((other, [doc]), (kb, [voice]), (kb, [theirs]), (kb, [doc, MISSING])):
        answer = client.post(f"/kb/{kb_id}/files/ingest", {"document_ids": ids})
        error(answer, 404, "not_found")
    assert documents(client, kb)[doc]["status"] == "pending_upload"
    for files in ([{"filename": "a.exe", "file_size": 3}], [{"filename": "a.txt", "file_size": 10485761}], [{"filename": "a.txt", "file_size": 1}] * 51):
        error(client.post(f"/kb/{kb}/files/presign", {"files": files}), 422, "validation_error")


def test_an_agent_searches_its_bases(server, client):
    first, second = base(client), base(client, name="Hours")
    agent = client.post("/agents", {**GOOD_AGENT, "knowledge_bases": [first["id"], second["id"]], "settings": {"knowledge_base_context_window": 7}})
    assert agent.status_code == 201, agent.text
    agent = agent.json()["data"]
    assert agent["knowledge_bases"] == [first["id"], second["id"]]
    selected = there(server, "agents", agent["ultravox_agent_id"]).json()["callTemplate"]["selectedTools"]
    assert selected == [{"toolName": "queryCorpus", "parameterOverrides": {"corpus_id": first["ultravox_corpus_id"], "max_results": 7}},
                        {"toolName": "queryCorpus", "nameOverride": "queryCorpus2",
                         "parameterOverrides": {"corpus_id": second["ultravox_corpus_id"], "max_results": 7}}]
    error(client.request("DELETE", f"/kb/{first['id']}"), 409, "conflict")
    client.request("PATCH", f"/agents/{agent['id']}", json={"knowledge_base_search_enabled": False})
    assert there(server, "agents", agent["ultravox_agent_id"]).json()["callTemplate"]["selectedTools"] == []
    client.request("PATCH", f"/agents/{agent['id']}", json={"knowledge_bases": []})
    assert client.request("DELETE", f"/kb/{first['id']}").status_code == 200


def test_a_lost_corpus_is_made_and_filled_again_by_sync(server, client):
    row = base(client)
    doc, = upload(client, row["id"], ("a.txt", b"words of wisdom"))
    client.post(f"/kb/{row['id']}/files/ingest", {"document_ids": [doc]})
    server.advance(60)
    agent = client.post("/agents", {**GOOD_AGENT, "knowledge_bases": [row["id"]]}).json()["data"]
    httpx.delete(f"{server.sandbox}/api/corpora/{row['ultravox_corpus_id']}", headers={"X-API-Key": "any"})
    error(client.request("PATCH", f"/kb/{row['id']}", json={"name": "x"}), 502, "provider_error")
    mended = client.post(f"/kb/{row['id']}/sync").json()["data"]
    assert mended["ultravox_corpus_id"] != row["ultravox_corpus_id"] and mended["status"] == "processing"
    server.advance(60)
    assert client.post(f"/kb/{row['id']}/query", {"query": "wisdom"}).json()["data"]["results"][0]["doc_id"] == doc
    selected = there(server, "agents", agent["ultravox_agent_id"]).json()["callTemplate"]["selectedTools"]
    assert selected[0]["parameterOverrides"]["corpus_id"] == mended["ultravox_corpus_id"]
