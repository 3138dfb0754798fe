"""The naive service: the decision record's own snippet, with ONNX Runtime in the place of its model."""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
model = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])

app = FastAPI()


class PredictionRequest(BaseModel):
    instances: list[list[float]]


@app.post("/predict")
async def predict(request: PredictionRequest):
    predictions = model.run(["y"], {"x": np.array(request.instances, dtype=np.float32)})[0]
    return {"predictions": predictions.tolist()}
