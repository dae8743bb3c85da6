"""A push puts a campaign's metrics into a real Pushgateway, or says why not; the file stays either way."""

from __future__ import annotations

import math
import re
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chaoslab.errors import UsageError
from chaoslab.export.pushgateway import PASSWORD_VARIABLE, Gateway
from chaoslab.records import RunState
from tests.campaigns import make_campaign, make_run
from tests.monitoring_servers import PASSWORD, USER, Server, free_port, protected, pushgateway
from tests.test_cli import chaoslab

HOSTILE = 'CPU "x" \\ \n# d \U0001f4a5'
FILE = "chaos_metrics.prom"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign with an outage, a hostile name, and a scenario that nothing is known of."""
    runs = [make_run(HOSTILE, n, down=[(6.0, 11.0 + n / 5)], seed=n) for n in (1, 2, 3)]
    runs += [make_run("Light CPU Stress", state=RunState.NOT_STEADY, steady=False, reason="error rate 12 %")]
    return make_campaign(tmp_path_factory.mktemp("pushed") / "campaign", runs).path


@pytest.fixture
def gateway(need: Callable[[str, str], None], tmp_path: Path) -> Iterator[Server]:
    need("prometheus-pushgateway", "install the package prometheus-pushgateway")
    with pushgateway(tmp_path) as server:
        yield server


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("chaos_")
    }


def labelled(found: Samples, **labels: str) -> Samples:
    """Return the samples as a gateway has them: in a group with `labels`."""
    return {(name, own.union(labels.items())): value for (name, own), value in found.items()}


def same(one: Samples, other: Samples) -> bool:
    return one.keys() == other.keys() and all(
        value == other[key] or (math.isnan(value) and math.isnan(other[key])) for key, value in one.items()
    )


def held(server: Server) -> Samples:
    with urllib.request.urlopen(f"{server.url}/metrics") as answer:
        return samples(answer.read().decode())


def push(folder: Path, url: str, output: Path, *options: str) -> int:
    target = ("--output", str(output), "--push", "--pushgateway-url", url)
    return chaoslab("export", str(folder), *target, "--push-retries", "1", "--push-timeout", "5", *options)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


# Against the real one


def test_what_was_pushed_is_what_the_gateway_holds_and_a_second_push_replaces_it(
    folder: Path, gateway: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--job-name", "night ly/1", "--grouping", "environment=a/b é", "--grouping", "team=x")
    for _ in range(2):
        assert push(folder, gateway.url + "/", tmp_path / FILE, *words) == 0
        wanted = samples((tmp_path / FILE).read_text())
        group = {"job": "night ly/1", "environment": "a/b é", "team": "x"}
        assert same(held(gateway), labelled(wanted, **group, instance=""))
    assert any(map(math.isnan, wanted.values()))
    assert f"pushed to {gateway.url}/, job night ly/1" in capsys.readouterr().out


def test_groups_stand_beside_each_other(folder: Path, gateway: Server, tmp_path: Path) -> None:
    for environment in ("staging", "production"):
        assert push(folder, gateway.url, tmp_path / FILE, "--grouping", f"environment={environment}") == 0
    environments = {dict(labels)["environment"] for _, labels in held(gateway)}
    assert environments == {"staging", "production"}


def test_without_an_output_the_file_is_the_campaigns_own(gateway: Server, tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path / "campaign", [make_run()]).path
    assert chaoslab("export", str(campaign), "--push", "--pushgateway-url", gateway.url) == 0
    assert same(held(gateway), labelled(samples((campaign / FILE).read_text()), job="chaoslab", instance=""))


def test_a_password_and_a_certificate_let_in_and_nothing_else_does(
    folder: Path,
    certificate: Path,
    need: Callable[[str, str], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need("prometheus-pushgateway", "install the package prometheus-pushgateway")
    secret = tmp_path / "secret"
    secret.write_text(f"{PASSWORD}\nmore\n")
    vouched = ("--pushgateway-ca", str(certificate) + ".crt")
    user = ("--pushgateway-user", USER)
    with pushgateway(tmp_path, protected(tmp_path, certificate)) as server:

        def pushed(*options: str) -> tuple[int, str]:
            code = push(folder, server.url, tmp_path / FILE, *options)
            assert (tmp_path / FILE).read_text().startswith("# HELP chaos_mttr_seconds")
            return code, said(capsys)

        assert pushed(*vouched, *user, "--pushgateway-password-file", str(secret)) == (0, "")
        monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
        assert pushed(*vouched, *user) == (0, "")

        code, words = pushed(*user)
        assert (code, "its certificate is not trusted: self-signed certificate" in words) == (2, True)
        assert "(1 attempt)" in words

        monkeypatch.setenv(PASSWORD_VARIABLE, "wrong-battery-7")
        code, words = pushed(*vouched, *user)
        assert (code, f"it answered 401: Unauthorized; user '{USER}' with that password is not let in" in words) == (
            2,
            True,
        )
        assert not re.search("wrong-battery|correct-horse", words)
        code, words = pushed(*vouched)
        assert (code, "it wants a user and a password (1 attempt)" in words) == (2, True)


# Against gateways that misbehave


class Scripted(BaseHTTPRequestHandler):
    """Keeps what it is sent, and answers with the next status of its server's script; the last one stays."""

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.path, dict(self.headers), body))  # type: ignore[attr-defined]
        script = self.server.script  # type: ignore[attr-defined]
        status = script.pop(0) if len(script) > 1 else script[0]
        body = f"text format parsing error\n\x1b[31m {self.headers['Authorization']} {'x' * 5000}".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_PUT()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(*script: int, taken: list[tuple[str, dict[str, str], bytes]] | None = None) -> Iterator[str]:
    """A server that answers with the statuses of `script`; what it was sent goes to `taken`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Scripted) as server:
        server.script = list(script)  # type: ignore[attr-defined]
        server.taken = [] if taken is None else taken  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def silent() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_gateway_that_is_down_is_tried_again_and_then_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert push(folder, url, tmp_path / FILE) == 2
    words = said(capsys)
    assert "attempt 1 to push: [Errno 111] Connection refused; trying again in 0." in words
    assert f"the Pushgateway {url} did not take the metrics: [Errno 111] Connection refused (2 attempts)" in words
    assert samples((tmp_path / FILE).read_text())


def test_a_gateway_that_does_not_answer_is_given_up_in_time(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with silent() as url:
        assert push(folder, url, tmp_path / FILE, "--push-timeout", "0.3") == 2
    assert "no answer within 0.3 s (2 attempts)" in said(capsys)
    assert samples((tmp_path / FILE).read_text())


def test_what_a_gateway_says_no_with_is_passed_on_in_one_line_and_without_secrets(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    with answering(400) as url:
        assert push(folder, url, tmp_path / FILE, "--pushgateway-user", USER) == 2
    words = capsys.readouterr().err
    assert "it answered 400: text format parsing error" in words
    assert "(1 attempt)" in words
    assert words.count("\n") == 1
    assert len(words) < 600
    assert "\x1b" not in words
    assert "Y2hhb3M6" not in words  # base64 of "chaos:"


def test_what_passes_by_itself_is_no_failure(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(503, 200) as url:
        assert push(folder, url, tmp_path / FILE) == 0
    assert "attempt 1 to push: it answered 503" in said(capsys)


def test_a_redirect_is_not_followed(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(307) as url:
        assert push(folder, url, tmp_path / FILE) == 2
    assert "it answered 307" in said(capsys)


# Bad usage


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--push"], "--push without --pushgateway-url; accepted: a URL such as"),
        (["--pushgateway-url", "http://x"], "--pushgateway-url without --push"),
        (["--grouping", "a=b"], "--grouping without --push"),
        (["--push", "--pushgateway-url", "pushgateway:9091"], "accepted: http or https, a host"),
        (["--push", "--pushgateway-url", "http://x:y"], "accepted: http or https, a host"),
        (["--push", "--pushgateway-url", "http://me:hunter2-x@x"], "accepted: one without user, password"),
        (["--grouping", "environment"], "accepted: NAME=VALUE"),
        (["--grouping", "a=b", "--grouping", "a=c"], "'a' is given twice: 'b' and 'c'"),
        (["--grouping", "a-b=c"], "the grouping key is 'a-b'; accepted: letters, digits and underscores"),
        (["--grouping", "scenario=x"], "'scenario' is taken"),
        (["--grouping", "a=.."], "the label a of the push is '..'; accepted"),
        (["--job-name", ""], "the label job of the push is ''; accepted"),
        (["--pushgateway-user", "me"], f"--pushgateway-user without a password; accepted: it in {PASSWORD_VARIABLE}"),
        (["--pushgateway-user", "me", "--pushgateway-password-file", "{tmp}/no"], "{tmp}/no cannot be read: No such"),
        (["--pushgateway-user", "me", "--pushgateway-password-file", "{tmp}/empty"], "its first line is empty"),
        (["--pushgateway-password-file", "{tmp}/text"], "a password for the Pushgateway without a user"),
        (["--pushgateway-ca", "{tmp}/no"], "{tmp}/no cannot be read: No such file"),
        (["--pushgateway-ca", "{tmp}/text"], "{tmp}/text holds no certificates; accepted: a file in PEM"),
        (["--push-timeout", "0"], "the time-out of a push is 0 s; accepted: above 0, up to 600"),
        (["--push-timeout", "nan"], "the time-out of a push is nan s"),
        (["--push-retries", "-1"], "the retries of a push are -1; accepted: 0 to 20"),
        (["--format", "junit"], "--push needs the format prometheus; --format names junit"),
    ],
)
def test_bad_usage_is_one_sentence_before_anything_is_done(
    options: list[str], words: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "text").write_text("some text\n")
    push = () if "--pushgateway-url" in options or "--push" in options else ("--push", "--pushgateway-url", "http://x")
    push = () if words.startswith("--grouping without") else push
    target = ("export", str(folder), "--output", str(tmp_path / "out.prom"))
    assert chaoslab(*target, *push, *(option.format(tmp=tmp_path) for option in options)) == 2
    found = said(capsys)
    assert words.format(tmp=tmp_path) in found
    assert "hunter2" not in found
    assert not (tmp_path / "out.prom").exists()


def test_a_gateway_is_shown_without_its_password() -> None:
    assert PASSWORD not in repr(Gateway(url="http://x", user=USER, password=PASSWORD))
    with pytest.raises(UsageError, match="without a colon"):
        Gateway(url="http://x", user="a:b", password=PASSWORD)
