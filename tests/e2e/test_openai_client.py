"""OpenAI's own client, unmodified, against a real server with keys."""

import subprocess

import openai
import pytest
from serve_support import INFERD, Process

MODEL = """
import numpy as np

class Embed:
    inputs = {"text": "BYTES[-1]"}
    outputs = {"embedding": "FP32[-1, 3]"}
    batchable = True

    def predict(self, text):
        return np.array([[len(each), 0.1, -1] for each in text], np.float32)
"""


def test_the_client_embeds_and_reads_errors(tmp_path):
    (tmp_path / "embed.py").write_text(MODEL)
    new_key = [*INFERD, "keys", "new", "--scope", "inference", "--file", str(tmp_path / "keys.toml")]
    secret = subprocess.run(new_key, capture_output=True, text=True, check=True).stdout.strip()
    flags = ("--api-keys-file", tmp_path / "keys.toml")
    with Process(tmp_path, "serve", "embed.py:Embed", *flags) as process:
        process.wait_ready()
        url = f"http://127.0.0.1:{process.port}/v1"
        with openai.OpenAI(base_url=url, api_key=secret, max_retries=0) as client:
            answer = client.embeddings.create(model="embed", input=["a", "bc"])
            assert [each.embedding[0] for each in answer.data] == [1, 2]
            assert answer.data[0].embedding[1] == pytest.approx(0.1)
            plain = client.embeddings.create(model="embed", input="a", encoding_format="float", dimensions=3)
            assert plain.data[0].embedding == [1, 0.1, -1]
            assert plain.usage.total_tokens == 1
            with pytest.raises(openai.NotFoundError, match="nobody"):
                client.embeddings.create(model="nobody", input="a")
            with pytest.raises(openai.BadRequestError, match="dimensions"):
                client.embeddings.create(model="embed", input="a", dimensions=2)
        with (
            openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.embeddings.create(model="embed", input="a")
