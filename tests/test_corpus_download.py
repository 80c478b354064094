"""Downloads against a server on this machine that drops connections, ignores ranges and changes its mind."""

import errno
import hashlib
import http.server
import io
import json
import threading
import types

import pytest

from cairn.core.config import from_dict
from cairn.core.errors import UserError
from cairn.corpus import Quarantine
from cairn.corpus import download as module
from cairn.corpus.download import CORPORA, NamedCorpus, RemoteFile, download
from cairn.corpus.sources import read_folder

BODY = b"".join(b"line %d of the corpus\n" % i for i in range(60_000))  # 1.4 MB
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """`server.plan` holds a behaviour for each request to come, then the last one stays; `server.seen` what was asked."""
    monkeypatch.setenv("no_proxy", "*")
    state = types.SimpleNamespace(plan=[{}], seen=[], body=BODY)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            how = state.plan.pop(0) if len(state.plan) > 1 else state.plan[0]
            state.seen.append((self.headers.get("Range"), self.headers.get("If-Range")))
            body, etag = state.body, how.get("etag", '"v1"')
            if "status" in how:
                self.send_response(how["status"])
                if "to" in how:
                    self.send_header("Location", how["to"])
                self.end_headers()
                return
            start = 0
            asked = self.headers.get("Range")
            if asked and how.get("ranges", True) and self.headers.get("If-Range", etag) == etag:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= len(body):
                    self.send_response(416)
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start + how.get('shift', 0)}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            if how.get("length", True):
                self.send_header("Content-Length", str(len(body) - start))
            for header in ("etag", "Content-Encoding"):
                value = etag if header == "etag" else how.get(header)
                if value:
                    self.send_header(header, value)
            self.end_headers()
            self.wfile.write(body[start : how.get("stop", len(body))])

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{running.server_port}/data/corpus.txt"
        yield state
        running.shutdown()


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def bring(server, tmp_path, pauses):
    def bring(sha256=SHA, **facts):
        corpus = NamedCorpus("small", (RemoteFile(server.url, sha256, **facts),))
        return download(corpus, tmp_path, pause=pauses.append)

    return bring


def partial(tmp_path):
    return tmp_path / "small" / "corpus.txt.partial"


def test_a_whole_download_is_checked_kept_and_readable(server, bring, tmp_path):
    folder = bring()
    assert folder == tmp_path / "small"
    assert (folder / "corpus.txt").read_bytes() == BODY
    assert not partial(tmp_path).exists()
    quarantine = Quarantine()
    assert [d.text.encode() for d in read_folder(folder, quarantine)] == [BODY]
    assert not quarantine.counts
    bring()
    assert len(server.seen) == 1  # the second call asked for nothing
    (folder / "corpus.txt").write_bytes(BODY[:-1] + b"!")
    with pytest.raises(UserError, match="delete it"):
        bring()


def test_dropped_connections_go_on_where_they_stopped(server, bring, pauses):
    server.plan = [{"stop": 100_000}, {"stop": 700_000}, {"status": 503}, {}]
    assert (bring() / "corpus.txt").read_bytes() == BODY
    assert server.seen == [
        (None, None),
        ("bytes=100000-", '"v1"'),
        ("bytes=700000-", '"v1"'),
        ("bytes=700000-", '"v1"'),
    ]
    assert pauses == [1, 1, 1]


def test_a_killed_download_goes_on_in_the_next_call(server, bring, tmp_path, pauses):
    server.plan = [{"stop": 500_000}, {"status": 500}]
    with pytest.raises(UserError, match=r"cannot be reached \(HTTP status 500\); run again"):
        bring()
    assert pauses == [1, 1, 2, 4, 8, 16]
    assert partial(tmp_path).stat().st_size == 500_000
    server.plan, server.seen = [{}], []
    bring()
    assert server.seen == [("bytes=500000-", '"v1"')]


def test_a_whole_partial_file_is_only_checked(server, bring, tmp_path):
    server.plan = [{"stop": 10}, {"status": 500}]
    with pytest.raises(UserError):
        bring()
    partial(tmp_path).write_bytes(BODY)
    server.seen = []
    assert (bring() / "corpus.txt").read_bytes() == BODY
    assert not server.seen


@pytest.mark.parametrize(
    "second",
    [
        {"ranges": False},  # the server knows no ranges
        {"etag": '"v2"'},  # the file was replaced: If-Range gives the whole new one
        {"shift": 7},  # the server answers with another range
    ],
)
def test_what_cannot_be_joined_starts_anew(server, bring, second, tmp_path):
    server.plan = [{"stop": 300_000}, second, {}]
    if second.get("etag"):
        first = server.body = b"x" * len(BODY)  # another file, of another version
        server.plan[1:] = [{"status": 500}]
        with pytest.raises(UserError):
            bring()
        assert partial(tmp_path).read_bytes() == first[:300_000]
        server.body, server.plan = BODY, [second]
    assert (bring() / "corpus.txt").read_bytes() == BODY


def test_a_partial_file_that_is_too_long_starts_anew(server, bring, tmp_path):
    partial(tmp_path).parent.mkdir()
    partial(tmp_path).write_bytes(BODY + b"too long")
    assert (bring() / "corpus.txt").read_bytes() == BODY
    assert server.seen[0][0] == f"bytes={len(BODY) + 8}-"


def test_without_a_version_or_checksum_nothing_is_joined(server, bring):
    server.plan = [{"stop": 300_000, "etag": 'W/"weak"'}, {"etag": ""}]
    assert (bring(sha256="") / "corpus.txt").read_bytes() == BODY
    assert server.seen == [(None, None), (None, None)]


def test_wrong_bytes_are_removed(server, bring, tmp_path):
    server.body = BODY.replace(b"line 7 ", b"line 8 ")
    with pytest.raises(UserError, match="gave a file of sha256"):
        bring()
    assert not list((tmp_path / "small").iterdir())


def test_the_first_download_is_trusted_and_binds_the_next(server, bring, tmp_path, capsys):
    folder = bring(sha256="")
    assert SHA in capsys.readouterr().err.replace("\n", "")
    notes = json.loads((tmp_path / "small.download.json").read_text())
    assert notes["corpus.txt"] == {"url": server.url, "version": '"v1"', "bytes": len(BODY), "sha256": SHA}
    bring(sha256="")
    assert len(server.seen) == 1
    (folder / "corpus.txt").unlink()
    server.body = BODY + b"one more line\n"
    server.plan = [{"etag": '"v2"'}]
    with pytest.raises(UserError, match="seen in the first download"):
        bring(sha256="")


def test_what_will_not_pass_is_said_at_once(server, bring, tmp_path, pauses):
    server.plan = [{"status": 404}]
    with pytest.raises(UserError, match="HTTP status 404"):
        bring()
    server.plan = [{"Content-Encoding": "gzip"}]
    with pytest.raises(UserError, match="packed in transit"):
        bring()
    server.plan = [{}]
    with pytest.raises(UserError, match="it has changed"):
        bring(bytes=len(BODY) + 1)
    with pytest.raises(UserError, match="over the bound"):
        download(NamedCorpus("small", (RemoteFile(server.url),)), tmp_path, largest=1000)
    server.plan = [{"length": False}]
    with pytest.raises(UserError, match="sends more than 1,000 bytes"):
        download(NamedCorpus("small", (RemoteFile(server.url),)), tmp_path, largest=1000)
    for target in ("http://example.org/x.txt", "file:///etc/passwd"):
        server.plan = [{"status": 302, "to": target}]
        with pytest.raises(UserError, match=r"only https|not allowed"):
            bring()
    assert not pauses


def test_a_stated_size_bounds_what_is_taken(server, bring, tmp_path):
    server.plan = [{"length": False}]
    with pytest.raises(UserError, match="sends more than 1,000,000 bytes"):
        bring(bytes=1_000_000)
    assert partial(tmp_path).stat().st_size <= 1_000_000


def test_a_full_disk_is_an_os_error_and_keeps_what_came(server, bring, tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > 400_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(module, "open", lambda path, mode: Full(path, mode), raising=False)
    with pytest.raises(OSError, match="No space left"):
        bring()
    assert 0 < partial(tmp_path).stat().st_size <= 400_000
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "*")
    assert (bring() / "corpus.txt").read_bytes() == BODY
    assert server.seen[-1][0].startswith("bytes=")


def test_a_host_that_does_not_answer(tmp_path, pauses, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    corpus = NamedCorpus("small", (RemoteFile("http://127.0.0.1:9/corpus.txt"),))
    with pytest.raises(UserError, match="cannot be reached"):
        download(corpus, tmp_path, pause=pauses.append)
    assert pauses == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.org/a.txt", "only https"),
        ("ftp://example.org/a.txt", "only https"),
        ("https:///a.txt", "only https"),
        ("https://example.org/", "plain file name"),
        ("https://example.org/..", "plain file name"),
        ("https://example.org/a%2F..%2Fb%00", "plain file name"),
    ],
)
def test_urls_that_are_refused(url, says):
    with pytest.raises(UserError, match=says):
        RemoteFile(url)


def test_named_corpora_are_well_formed():
    assert {"tinyshakespeare", "tinystories", "wikitext-103", "fineweb-edu-sample"} <= set(CORPORA)
    for name, corpus in CORPORA.items():
        assert name == corpus.name
        assert corpus.licence != "unknown"
        assert all(bool(file.sha256) == bool(file.bytes) for file in corpus.files)
    file = from_dict(RemoteFile, {"url": "https://example.org/a.jsonl.zst", "sha256": "0" * 64})
    assert NamedCorpus("mine", (file,)).files[0].name == "a.jsonl.zst"
    for broken in ({"name": "../up"}, {"name": "a/b"}, {"files": ()}, {"files": (file, file)}):
        with pytest.raises(UserError):
            NamedCorpus(**{"name": "mine", "files": (file,)} | broken)
    with pytest.raises(UserError, match="64 hexadecimal"):
        RemoteFile("https://example.org/a.txt", "abc")
