"""What is a secret is hidden however it is written, and what is none stays readable."""

from __future__ import annotations

import json
import shlex
from base64 import b64encode
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaoslab.errors import NotReverted, UsageError
from chaoslab.redaction import MASK, learn, learn_environment, looks_secret, redact, redact_command, redact_document

SECRET = "c4nary-7"

# Each holds the secret where it is one.
TEXTS = [
    "http://me:{}@127.0.0.1:8080/health",
    "http://me:p@{}@127.0.0.1/",
    "http://me:{}/@127.0.0.1/",
    "postgresql://app:{}@db:5432/shop?sslmode=require",
    "https://{}@example.com/x",
    "redis://:{}@cache:6379/0",
    "http://127.0.0.1/health?token={}&page=2",
    "http://127.0.0.1/health?page=2&X-Amz-Signature={}",
    "http://127.0.0.1/?key={}",
    "http://127.0.0.1/#access_token={}",
    "psql --password {} --host db",
    "psql --password={} --host db",
    "psql --password '{} and more' --host db",
    'psql --password "{} and more"',
    "java -Ddb.password={} -jar x.jar",
    "PGPASSWORD={} psql",
    "sh -c 'PGPASSWORD={} psql -h db'",
    "export DB_PASS='{}'",
    "host=db user=app password={} dbname=shop",
    "host=db password = '{} x'",
    "dsn=host=db;password={}",
    '{{"user": "app", "password": "{}", "n": 1}}',
    "{{'api_key': '{}'}}",
    "('psql', '--password', '{}', '--host', 'db')",
    "Authorization: Bearer {}",
    "curl -H 'Authorization: Basic {}' http://x",
    "Cookie: sid={}; theme=dark",
    "X-Api-Key: {}",
    "x-auth-token: {} more",
    "it sent Bearer {}",
    "curl -u me:{} http://x",
    "curl --user 'me:{}' http://x",
    "redis-cli -h db -a {} ping",
    "sshpass -p{} ssh db",
    "sshpass -p {} ssh db",
    "mysql -uroot -p{} shop",
    "mongosh --host db -p {} ping",
    "MYSQL_PWD={}",
    "REDISCLI_AUTH={} redis-cli ping",
    "AWS_SECRET_ACCESS_KEY={}",
    "client_secret={}",
    "--authToken={}",
]

HARMLESS = [
    "curl --author Jane --monkey 3 --keyboard us --tokenizer bpe",
    "the password authentication of the user failed: the token has expired",
    "session: closed; basic authentication is required",
    "docker run --user 1000:1000 -u 33:33 image",
    "psql --no-password --host db",
    "--password-file /run/secrets/db --session-timeout 30 --auth-method ldap --cookie-name sid",
    "max_tokens=500 secretary=Jane author=Jane key=value passport=no",
    "http://127.0.0.1:8080/api/health?page=2&sort=asc",
    "http://127.0.0.1:8080/users/me@example.com",
    "http://[::1]:8080/users/me@example.com",
    "ssh://ops@shop-1.example.com:2222",
    "mysql -h db -P 3306 --protocol tcp -e 'select 1'",
    "redis-cli -h db -p 6379 ping",
    'PGPASSWORD=$DB_PASSWORD psql --password "$DB_PASSWORD" --token ${TOKEN} --secret $(cat /run/secret)',
    "sh -c 'PGPASSWORD=\"$DB_PASSWORD\" psql'",
    "Content-Type: text/html; charset=utf-8",
    "abort condition: 51% of probes failed in the last 30 s; everything was reverted",
    "python -m chaoslab.agent.victim thaw 17 4711 --mark 20260101T000000-abcdef-0000-x-r1-12ab",
    "python -m chaoslab.agent.proxy stats P T --send http://127.0.0.1:8080/ --to 127.0.0.1:9",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_in_a_text_is_hidden_and_its_surroundings_stay(text: str) -> None:
    shown = redact(text.format(SECRET))
    assert SECRET not in shown
    assert MASK in shown
    assert shown.split()[0] == redact(text.format(SECRET).split()[0])
    assert redact(shown) == shown


@pytest.mark.parametrize("text", HARMLESS)
def test_a_text_without_a_secret_comes_back_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("text", [text for text in HARMLESS if not set("'\"(") & set(text)])
def test_a_command_without_a_secret_comes_back_as_it_is(text: str) -> None:
    assert list(redact_command(text.split())) == text.split()


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["psql", "--password", "a b", "-h", "db"], ["psql", "--password", MASK, "-h", "db"]),
        (["psql", "--password", "-h", "db"], ["psql", "--password", "-h", "db"]),
        (["env", "PGPASSWORD=a b", "psql"], ["env", f"PGPASSWORD={MASK}", "psql"]),
        (["curl", "-H", "Authorization: Bearer a b"], ["curl", "-H", f"Authorization: Bearer {MASK}"]),
        (["curl", "-u", "me:a b"], ["curl", "-u", f"me:{MASK}"]),
        (["/usr/bin/mysql", "-pa b", "shop"], ["/usr/bin/mysql", f"-p{MASK}", "shop"]),
        (["redis-cli", "-a", "a b", "ping"], ["redis-cli", "-a", MASK, "ping"]),
        (["sh", "-c", "redis-cli -a x1 ping"], ["sh", "-c", f"redis-cli -a {MASK} ping"]),
        (["pg_isready", "-d", "postgresql://a:b@db/x"], ["pg_isready", "-d", f"postgresql://{MASK}@db/x"]),
        (["psql", "password=a host=db"], ["psql", f"password={MASK}"]),
        (["x", "--token", "$TOKEN"], ["x", "--token", "$TOKEN"]),
    ],
)
def test_a_secret_in_a_command_is_hidden(command: list[str], shown: list[str]) -> None:
    assert list(redact_command(command)) == shown
    assert list(redact_command(shown)) == shown


def test_a_secret_in_a_document_is_hidden_by_its_key_and_the_rest_keeps_its_type() -> None:
    document = {
        "headers": {"Authorization": "Bearer x1", "X-Page": "2"},
        "api_key": "x2",
        "count": 3,
        "commands": [["psql", "--password", "x3"], ["true"]],
        "mixed": ["http://a:x4@b", 5, None],
        "session_timeout": "30 s",
        "secrets": ["DB_PASSWORD"],
    }
    assert redact_document(document) == {
        "headers": {"Authorization": f"Bearer {MASK}", "X-Page": "2"},
        "api_key": MASK,
        "count": 3,
        "commands": [["psql", "--password", MASK], ["true"]],
        "mixed": [f"http://{MASK}@b", 5, None],
        "session_timeout": "30 s",
        "secrets": ["DB_PASSWORD"],
    }


def test_what_was_learnt_is_hidden_wherever_it_comes_up() -> None:
    learn({"start_command": ["psql", "--password", "it's me"], "url": "http://me:100%25%20sure@db"})
    said = f"it's me; 100% sure; {b64encode(b'me:100% sure').decode()}; {shlex.join(['say', 'it' + chr(39) + 's me'])}"
    assert redact(said) == f"{MASK}; {MASK}; {MASK}; say '{MASK}'"
    assert redact(json.dumps({"said": "it's me"})) == json.dumps({"said": MASK})


@pytest.mark.parametrize(
    ("password", "text", "shown"),
    [
        ("abc", "abc abcd", "abc abcd"),
        ("abc1", "abc1 xabc1 abc12", f"{MASK} xabc1 abc12"),
        ("postgres", "postgres runs postgresql", f"{MASK} runs postgresql"),
        ("hunter22", "xhunter22x", f"x{MASK}x"),
        ("true", "it is true", "it is true"),
        ("$DB_PASSWORD", "see $DB_PASSWORD", "see $DB_PASSWORD"),
    ],
)
def test_a_short_or_common_password_takes_no_other_words_with_it(password: str, text: str, shown: str) -> None:
    learn(["psql", "--password", password])
    assert redact(text) == shown


def test_variables_that_are_named_hold_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_LICENCE", SECRET)
    learn_environment(["SHOP_LICENCE", "NOT_SET"])
    assert redact(f"the licence {SECRET} has expired") == f"the licence {MASK} has expired"


def test_a_document_that_names_itself_or_one_part_many_times_is_learnt_from_once() -> None:
    loop: list[Any] = [["--token", SECRET]]
    loop.append(loop)
    for _ in range(100):
        loop = [loop, loop]
    learn(loop)
    assert redact(SECRET) == MASK


def test_errors_hold_no_secrets() -> None:
    assert str(UsageError(f"'ftp://me:{SECRET}@x' is not accepted")) == f"'ftp://{MASK}@x' is not accepted"
    assert NotReverted("stuck", commands=[f"psql --password {SECRET}"]).commands == (f"psql --password {MASK}",)


@given(st.text())
def test_any_text_can_be_redacted_and_again_without_a_change(text: str) -> None:
    assert redact(redact(text)) == redact(text)


PIECES = [*"'\"=:@/ &?;,{}()$\\\n\t-*", MASK, "a1", "token", "password", "--password", "-u", "-a ", "-p"]
PIECES += ["http://", "Authorization: ", "Bearer ", "redis-cli", "mysql"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_pieces_of_secrets_in_any_order_are_redacted_once_and_for_all(pieces: list[str]) -> None:
    once = redact("".join(pieces))
    assert redact(once) == once
    command = redact_command(pieces)
    assert redact_command(command) == command


DOCUMENTS = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(DOCUMENTS)
def test_any_document_can_be_learnt_from_and_redacted(document: Any) -> None:
    learn(document)
    assert redact_document(redact_document(document)) == redact_document(document)


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1).filter("***".__ne__))
def test_any_password_that_a_url_can_hold_is_hidden(password: str) -> None:
    assert redact(f"http://me:{quote(password, safe='')}@db/x") == f"http://{MASK}@db/x"


@pytest.mark.parametrize("name", ["author", "authority", "monkey", "passenger", "compass", "tokens", "secretary", "-"])
def test_names_that_only_look_alike_are_none(name: str) -> None:
    assert not looks_secret(name)
