"""Models in the layout of the hub: found, loaded, refused."""

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from gym_code.errors import ConfigError
from tests.train.hub_layout import PADDED, write_hub_layout
from train.config import load_config
from train.hub import locate
from train.model import device_of, load_base, with_adapter

MODEL = "some/model"


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hub_layout(tmp_path_factory.mktemp("model"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub that nobody answers for."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "cache"


def put(layout: Path, cache: Path) -> Path:
    """The model as the hub's client keeps it in its cache."""
    folder = cache / f"models--{MODEL.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("0" * 40)
    shutil.copytree(layout, folder / "snapshots" / ("0" * 40))
    return folder / "snapshots" / ("0" * 40)


@pytest.mark.parametrize("tied", [False, True])
def test_shards_are_loaded_and_the_adapter_leaves_head_and_embedding_alone(
    tmp_path: Path, tied: bool
) -> None:
    path = write_hub_layout(tmp_path, tied=tied)
    assert len(list(path.glob("model-*-of-*.safetensors"))) >= 2
    base, found = load_base(str(path), torch.float32)
    assert found == path
    assert base.lm_head.weight.shape == (PADDED, 64)
    assert (base.lm_head.weight is base.model.embed_tokens.weight) is tied
    assert base.lm_head.weight.dtype == torch.float32
    trained = {n for n, p in with_adapter(base, 4, 8.0).named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 7 * 2  # seven linear layers, A and B, in two layers
    assert not any("lm_head" in name or "embed" in name for name in trained)


def test_in_bf16_the_adapter_stays_in_fp32(layout: Path) -> None:
    base, _ = load_base(str(layout), torch.bfloat16)
    policy = with_adapter(base, 4, 8.0)
    assert {p.dtype for p in policy.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in policy.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_a_shard_that_is_missing_is_named(layout: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model"
    shutil.copytree(layout, broken)
    shard = sorted(broken.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ConfigError, match=f"no whole model here .* found no {shard.name}"):
        load_base(str(broken), torch.float32)


def test_weights_that_lack_a_tensor_are_refused(layout: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model"
    shutil.copytree(layout, broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ConfigError, match=r"weights are missing.*layers.2"):
        load_base(str(broken), torch.float32)


def test_a_hub_id_is_found_in_the_local_cache(layout: Path, cache: Path) -> None:
    there = put(layout, cache)
    assert locate(MODEL) == there
    assert load_config(MODEL, {}).model == MODEL


def test_a_hub_id_that_cannot_be_had_says_what_was_tried_and_what_to_do(cache: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        locate(MODEL)
    said = str(caught.value)
    assert said.startswith(f"{MODEL}: no such directory, not whole in the cache {cache}")
    assert f"run `hf download {MODEL}`" in said
    assert "\n" not in said


def test_offline_is_honoured(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="offline mode is enabled"):
        locate(MODEL)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's API as a download asks for."""

    def __init__(self, layout: Path, asked: list[str], *options: object) -> None:
        self.layout, self.asked = layout, asked
        super().__init__(*options)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        headers = {"X-Repo-Commit": "1" * 40}
        if path.startswith(f"/api/models/{MODEL}/tree/"):
            files = sorted(self.layout.iterdir())
            body = json.dumps(
                [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": digest(f)} for f in files]
            ).encode()
        elif path.startswith(f"/api/models/{MODEL}"):
            siblings = [{"rfilename": f.name} for f in sorted(self.layout.iterdir())]
            body = json.dumps({"id": MODEL, "sha": "1" * 40, "siblings": siblings}).encode()
        else:
            file = self.layout / path.rpartition("/")[2]
            body, headers["ETag"] = file.read_bytes(), f'"{digest(file)}"'
        self.send_response(200)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@pytest.fixture
def hub(layout: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[list[str]]:
    from huggingface_hub import constants

    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, layout, asked)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield asked
        server.shutdown()
        thread.join()


def test_a_hub_id_is_downloaded_once(hub: list[str], layout: Path, cache: Path) -> None:
    path = locate(MODEL)
    assert path.is_relative_to(cache)
    assert {f.name for f in path.iterdir()} == {f.name for f in layout.iterdir()}
    base, _ = load_base(MODEL, torch.float32)
    assert base.config.num_hidden_layers == 2
    asked = len(hub)
    locate(MODEL)
    assert len(hub) == asked > 0


def test_the_devices() -> None:
    assert device_of("cpu") == torch.device("cpu")
    if torch.cuda.is_available():
        assert device_of("auto").type == device_of("cuda").type == "cuda"
    else:
        assert device_of("auto") == torch.device("cpu")
        with pytest.raises(ConfigError, match=r"torch finds no GPU here .*device=cpu"):
            device_of("cuda")
