"""Settings from the environment."""

from __future__ import annotations

import stat
import traceback
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from farm.errors import FarmUnreachable, InvalidInput
from farm.settings import GROUPS, Settings
from tests.support.receiver import SECRET

DEFAULTS = {
    "broker_url": None,
    "store_url": None,
    "s3_endpoint": "https://s3.amazonaws.com",
    "s3_region": "us-east-1",
    "s3_access_key": None,
    "s3_secret_key": None,
    "s3_path_style": None,
    "s3_public_base": None,
    "s3_link_s": 604_800,
    "s3_ca": None,
    "store_retry_s": 30,
    "weights": None,
    "presets": ("miniature",),
    "device": "auto",
    "cpu_concurrency": 2,
    "download_concurrency": 64,
    "downloads_per_host": 8,
    "lease_s": 15,
    "reap_every_s": 5,
    "redispatch_after_s": 3600,
    "max_attempts": 3,
    "step_timeout_s": 3600,
    "metrics_address": None,
    "max_visual_bytes": 200_000_000,
    "max_audio_bytes": 50_000_000,
    "max_audio_s": 3600,
    "max_tts_characters": 20_000,
    "max_tts_turns": 500,
    "tts_timeout_s": 300,
    "max_request_bytes": 262_144,
    "fetch_timeout_s": 60,
    "fetch_min_bytes_per_s": 50_000,
    "fetch_speed_window_s": 20,
    "fetch_allow": (),
    "fetch_ports": ("80", "443", "1024-65535"),
}

INVALID = [
    ("FARM_DEVICE", "gpu"),
    ("FARM_DEVICE", "cuda:first"),
    ("FARM_DEVICE", "CPU"),
    ("FARM_DEVICE", ""),
    ("FARM_CPU_CONCURRENCY", "0"),
    ("FARM_CPU_CONCURRENCY", "many"),
    ("FARM_CPU_CONCURRENCY", "1.5"),
    ("FARM_LEASE_S", "0"),
    ("FARM_LEASE_S", "-1"),
    ("FARM_LEASE_S", "soon"),
    ("FARM_REAP_EVERY_S", "0"),
    ("FARM_REDISPATCH_AFTER_S", "0"),
    ("FARM_MAX_ATTEMPTS", "0"),
    ("FARM_STEP_TIMEOUT_S", "0"),
    ("FARM_MAX_VISUAL_BYTES", "0"),
    ("FARM_MAX_AUDIO_BYTES", "200 MB"),
    ("FARM_MAX_AUDIO_S", "0"),
    ("FARM_MAX_TTS_CHARACTERS", "100001"),
    ("FARM_MAX_TTS_TURNS", "1"),
    ("FARM_TTS_TIMEOUT_S", "0"),
    ("FARM_MAX_REQUEST_BYTES", "0"),
    ("FARM_FETCH_TIMEOUT_S", ""),
    ("FARM_FETCH_MIN_BYTES_PER_S", "-1"),
    ("FARM_FETCH_SPEED_WINDOW_S", "0"),
    ("FARM_S3_REGION", "us east"),
    ("FARM_S3_PATH_STYLE", "host"),
    ("FARM_S3_LINK_S", "0"),
    ("FARM_S3_LINK_S", "604801"),
    ("FARM_STORE_RETRY_S", "-1"),
    ("FARM_WEBHOOK_TIMEOUT_S", "0"),
    ("FARM_OUTPUT_INLINE_BYTES", "-1"),
    ("FARM_UI_UPLOAD_BYTES", "0"),
]


def test_an_empty_environment_gives_the_defaults():
    settings = Settings.load({})
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS


def test_every_setting_has_a_description():
    assert all(field.description for field in Settings.model_fields.values())


def test_the_settings_are_those_of_all_groups_in_their_order():
    names = [name for group in GROUPS for name in group.model_fields]
    assert names == list(Settings.model_fields)


def test_a_variable_sets_its_field():
    settings = Settings.load(
        {"FARM_LEASE_S": "2.5", "FARM_PRESETS": "flashtalk, miniature", "FARM_MAX_ATTEMPTS": "7"}
    )
    assert (settings.lease_s, settings.max_attempts) == (2.5, 7)
    assert settings.presets == ("flashtalk", "miniature")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:15"])
def test_a_device_is_one_that_gpu_workers_have(device):
    assert Settings.load({"FARM_DEVICE": device}).device == device


def test_other_variables_are_ignored():
    assert Settings.load({"PATH": "/bin", "FARMER": "x", "MY_FARM_LEASE_S": "0"}) == Settings()


@pytest.mark.parametrize(("name", "value"), INVALID)
def test_an_invalid_value_is_rejected_by_the_variables_name(name, value):
    with pytest.raises(InvalidInput) as caught:
        Settings.load({name: value})
    described = Settings.model_fields[name.removeprefix("FARM_").lower()].description
    assert caught.value.message.startswith(f"{name}: got {value!r}; ")
    assert caught.value.message.endswith(f"; allowed: {described}")


def test_each_model_that_there_is_not_is_refused_once_with_the_nearest_name():
    with pytest.raises(InvalidInput) as caught:
        Settings.load({"FARM_PRESETS": "minature, infinitetalk"})
    allowed = f"there is no such model; allowed: {Settings.model_fields['presets'].description}"
    assert caught.value.message.splitlines() == [
        f"FARM_PRESETS: got 'minature'; {allowed}; did you mean miniature?",
        f"FARM_PRESETS: got 'infinitetalk'; {allowed}; did you mean infinitetalk-480?",
    ]


def test_a_list_of_models_cannot_be_empty():
    with pytest.raises(InvalidInput, match=r"FARM_PRESETS: got \[\]; it must have 1 or more items"):
        Settings.load({"FARM_PRESETS": ""})


@pytest.mark.parametrize(
    ("unknown", "suggestion"),
    [
        ("FARM_LEASES_S", "FARM_LEASE_S"),
        ("FARM_BROKERURL", "FARM_BROKER_URL"),
        ("FARM_MAX_ATTEMPT", "FARM_MAX_ATTEMPTS"),
        ("FARM_STORE", "FARM_STORE_URL"),
    ],
)
def test_an_unknown_variable_is_rejected_with_the_closest_name(unknown, suggestion):
    with pytest.raises(InvalidInput) as caught:
        Settings.load({unknown: "secret"})
    assert caught.value.message == f"{unknown}: there is no such field; did you mean {suggestion}?"


def test_ports_are_given_alone_or_as_ranges():
    settings = Settings.load({"FARM_FETCH_PORTS": "80, 8000-8999"})
    assert settings.fetch_port_ranges == (range(80, 81), range(8000, 9000))


@pytest.mark.parametrize("value", ["http", "0", "70000", "90-80", "80,-1", "1-2-3"])
def test_an_invalid_port_is_rejected(value):
    with pytest.raises(InvalidInput, match=r"FARM_FETCH_PORTS.*it is no port, and no range"):
        Settings.load({"FARM_FETCH_PORTS": value})


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_can_enter_a_home_that_the_farm_creates(tmp_path):
    settings = Settings(home=tmp_path / "homes" / "home")
    assert mode(settings.make_folder()) == 0o700


def test_a_home_that_others_can_enter_is_closed_to_them(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o755)
    assert mode(Settings(home=tmp_path / "home").make_folder()) == 0o700


def test_a_folder_of_all_users_is_no_home_and_is_not_closed(tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    with pytest.raises(PermissionError):
        Settings(home=tmp_path / "tmp").make_folder()
    assert mode(tmp_path / "tmp") == 0o1777


def test_networks_are_separated_by_commas():
    settings = Settings.load({"FARM_FETCH_ALLOW": "10.1.0.0/16, 192.168.7.1,fd00::/8"})
    assert settings.fetch_allow == (
        ip_network("10.1.0.0/16"),
        ip_network("192.168.7.1/32"),
        ip_network("fd00::/8"),
    )


def test_a_list_of_networks_can_be_empty():
    assert Settings.load({"FARM_FETCH_ALLOW": ""}).fetch_allow == ()


@pytest.mark.parametrize("value", ["everything", "10.0.0.1/8"])
def test_an_invalid_network_is_rejected(value):
    with pytest.raises(InvalidInput, match="FARM_FETCH_ALLOW"):
        Settings.load({"FARM_FETCH_ALLOW": value})


def test_retry_delays_are_separated_by_commas():
    assert Settings.load({"FARM_WEBHOOK_RETRY_DELAYS_S": "5, 0.5,7"}).webhook_retry_delays_s == (
        5,
        0.5,
        7,
    )


@pytest.mark.parametrize("value", ["soon", "5,0", "-1"])
def test_an_invalid_retry_delay_is_rejected(value):
    with pytest.raises(InvalidInput, match="FARM_WEBHOOK_RETRY_DELAYS_S"):
        Settings.load({"FARM_WEBHOOK_RETRY_DELAYS_S": value})


def test_buckets_are_separated_by_commas():
    assert Settings.load({"FARM_OUTPUT_BUCKETS": "one, two.three"}).output_buckets == (
        "one",
        "two.three",
    )


@pytest.mark.parametrize("value", ["UPPER", "a/b", "x"])
def test_an_invalid_bucket_is_rejected(value):
    with pytest.raises(InvalidInput, match="FARM_OUTPUT_BUCKETS"):
        Settings.load({"FARM_OUTPUT_BUCKETS": value})


def test_names_and_proxies_of_the_page_are_separated_by_commas():
    settings = Settings.load(
        {"FARM_UI_HOSTS": "farm.example, Video.example", "FARM_UI_TRUSTED_PROXIES": "127.0.0.1,::1"}
    )
    assert settings.ui_hosts == ("farm.example", "Video.example")
    assert settings.ui_trusted_proxies == (ip_network("127.0.0.1/32"), ip_network("::1/128"))


@pytest.mark.parametrize("value", ["https://farm.example", "farm.example:8443", "*", "[::1]"])
def test_an_invalid_name_of_the_page_is_rejected(value):
    with pytest.raises(InvalidInput, match="FARM_UI_HOSTS"):
        Settings.load({"FARM_UI_HOSTS": value})


def test_two_secrets_can_be_set_during_rotation_and_are_not_shown():
    settings = Settings.load({"FARM_WEBHOOK_SECRET": f"{SECRET},{SECRET}"})
    assert settings.webhook_secret == (SECRET, SECRET)
    assert SECRET not in repr(settings)


@pytest.mark.parametrize("value", ["my own secret", SECRET + ",whsec_short", "whsec_!"])
def test_an_invalid_secret_is_rejected_without_being_repeated(value):
    with pytest.raises(InvalidInput, match=r"^FARM_WEBHOOK_SECRET.*24 to 64 bytes") as caught:
        Settings.load({"FARM_WEBHOOK_SECRET": value})
    assert value not in "".join(traceback.format_exception(caught.value))


def test_folders_are_in_the_home_by_default(tmp_path):
    settings = Settings.load({"FARM_HOME": str(tmp_path)})
    assert settings.weights_folder == tmp_path / "weights"
    assert settings.store_address == (tmp_path / "store").as_uri()
    assert settings.broker_url_file == tmp_path / "run" / "broker"
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_in_the_home_is_expanded():
    assert Settings(home=Path("~/farm")).folder == Path.home().resolve() / "farm"


def test_store_and_weights_can_be_elsewhere(tmp_path):
    settings = Settings.load({"FARM_STORE_URL": "memory://", "FARM_WEIGHTS": str(tmp_path)})
    assert (settings.store_address, settings.weights_folder) == ("memory://", tmp_path)


def test_the_local_broker_is_found_by_its_url_file(tmp_path):
    settings = Settings(home=tmp_path)
    settings.broker_url_file.parent.mkdir()
    settings.broker_url_file.write_text("redis://:pass@127.0.0.1:1234/0\n")
    assert settings.broker_address == "redis://:pass@127.0.0.1:1234/0"


def test_a_broker_url_overrides_the_url_file(tmp_path):
    settings = Settings(home=tmp_path, broker_url="redis://far/0")
    settings.broker_url_file.parent.mkdir()
    settings.broker_url_file.write_text("redis://near/0")
    assert settings.broker_address == "redis://far/0"


def test_without_a_broker_the_error_says_what_to_do(tmp_path):
    with pytest.raises(
        FarmUnreachable,
        match=r"no farm is up in .*; start one with `farm up`, or set FARM_BROKER_URL",
    ):
        _ = Settings(home=tmp_path).broker_address


def test_the_registry_is_the_broker_unless_it_has_a_url_of_its_own():
    one = Settings(broker_url="redis://a/0")
    assert (one.registry_address, one.has_own_registry) == ("redis://a/0", False)
    two = Settings(broker_url="redis://a/0", registry_url="rediss://b/1")
    assert (two.registry_address, two.has_own_registry) == ("rediss://b/1", True)


@pytest.mark.parametrize(
    ("url", "got"), [("amqp://farm:hunter2@host", "amqp://"), ("hunter2", "no URL")]
)
def test_a_registry_that_is_no_redis_is_refused_without_any_of_its_password(url, got):
    with pytest.raises(InvalidInput) as refused:
        Settings.load({"FARM_REGISTRY_URL": url})
    message = str(refused.value)
    assert message.startswith("FARM_REGISTRY_URL: ")
    assert f"{got} is no registry, only Redis and Valkey can be one" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("name", ["FARM_BROKER_URL", "FARM_REGISTRY_URL"])
def test_celerys_spelling_of_a_parameter_that_the_registry_does_not_know_is_refused(name):
    with pytest.raises(InvalidInput, match=f"{name}: .*required, optional and none, in lower case"):
        Settings.load({name: "rediss://host/0?ssl_cert_reqs=CERT_REQUIRED"})


@pytest.mark.parametrize("name", ["FARM_BROKER_URL", "FARM_REGISTRY_URL", "FARM_BROKER_API"])
def test_a_password_that_is_not_encoded_is_refused_without_it(name):
    scheme = "http" if name.endswith("API") else "redis"
    with pytest.raises(InvalidInput, match="a password has %2F for /") as refused:
        Settings.load({name: f"{scheme}://farm:hun/ter2@host:1/0"})
    assert "hun" not in str(refused.value)


def test_the_brokers_password_is_not_in_the_repr():
    settings = Settings.load({"FARM_BROKER_URL": "redis://:hunter2@host/0"})
    assert "hunter2" not in f"{settings!r} {settings}"


def test_the_stores_credentials_are_not_in_the_repr():
    settings = Settings.load({"FARM_S3_ACCESS_KEY": "access-key", "FARM_S3_SECRET_KEY": "hunter2"})
    assert "hunter2" not in f"{settings!r} {settings}"
    assert "access-key" not in f"{settings!r} {settings}"


S3_ENVIRON = {
    "S3_ENDPOINT": "http://minio:9000",
    "S3_REGION": "eu-west-3",
    "S3_ACCESS_KEY": "access-key",
    "S3_SECRET_KEY": "hunter2",
    "S3_PUBLIC_BASE": "https://media.example.com",
}


def test_the_store_can_be_set_by_variables_without_prefix():
    settings = Settings.load({**S3_ENVIRON, "S3_BUCKET": "videos"})
    assert settings.store_address == "s3://videos"
    assert {name: getattr(settings, name.lower()) for name in S3_ENVIRON} == S3_ENVIRON


def test_a_farm_variable_overrides_one_without_prefix():
    settings = Settings.load(
        {
            **S3_ENVIRON,
            "S3_BUCKET": "videos",
            "FARM_STORE_URL": "s3://ours",
            "FARM_S3_REGION": "eu-west-1",
        }
    )
    assert (settings.store_address, settings.s3_region) == ("s3://ours", "eu-west-1")


def test_an_error_names_the_variable_that_was_set():
    with pytest.raises(InvalidInput, match=r"^S3_REGION: got 'a b'"):
        Settings.load({"S3_REGION": "a b"})
    with pytest.raises(InvalidInput, match=r"^FARM_S3_REGION: got 'c d'"):
        Settings.load({"S3_REGION": "a b", "FARM_S3_REGION": "c d"})


@pytest.mark.parametrize("missing", ["S3_ACCESS_KEY", "S3_SECRET_KEY"])
def test_a_bucket_without_both_keys_is_ignored(missing):
    environ = {name: value for name, value in S3_ENVIRON.items() if name != missing}
    assert Settings.load({**environ, "S3_BUCKET": "videos"}).store_url is None


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().lease_s = 1  # type: ignore[misc]


def test_equal_settings_are_one_key():
    assert hash(Settings(lease_s=3)) == hash(Settings(lease_s=3))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("worker-1.farm:80", ("worker-1.farm", 80)),
        ("[::1]:9464", ("::1", 9464)),
    ],
)
def test_metrics_are_served_on_loopback_unless_a_host_is_given(address, expected):
    assert Settings.load({"FARM_METRICS_ADDRESS": address}).metrics_listen_address == expected


def test_a_password_in_a_malformed_url_is_not_repeated():
    with pytest.raises(InvalidInput, match="a password has %2F for /") as caught:
        Settings.load({"FARM_BROKER_URL": "redis://:hush#more@host:6379/0"})
    assert "hush" not in str(caught.value.describe(at_stage=""))


def test_without_an_address_no_metrics_are_served():
    assert Settings.load({}).metrics_listen_address is None


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":9464",
        "here",
        "0",
        "65534",
        "99999",
        "::1:9464",
        "a b:9464",
        "9464/x",
        "a..b:9464",
        f"{'a' * 64}:9464",
    ],
)
def test_an_invalid_metrics_address_is_rejected(address):
    with pytest.raises(InvalidInput, match="FARM_METRICS_ADDRESS"):
        Settings.load({"FARM_METRICS_ADDRESS": address})
