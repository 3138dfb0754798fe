// The same service in Node.js: fastify with onnxruntime-node. Usage: node server.js MODEL PORT
import Fastify from "fastify";
import ort from "onnxruntime-node";

const [modelPath, port] = process.argv.slice(2);
const session = await ort.InferenceSession.create(modelPath, { intraOpNumThreads: 1, interOpNumThreads: 1 });
const app = Fastify({ bodyLimit: 64 * 1024 * 1024 });

app.post("/predict", async (request) => {
  const rows = request.body.instances;
  const width = rows[0].length;
  const values = new Float32Array(rows.length * width);
  rows.forEach((row, index) => values.set(row, index * width));
  const { y } = await session.run({ x: new ort.Tensor("float32", values, [rows.length, width]) });
  const columns = y.dims[1];
  return { predictions: rows.map((_, index) => Array.from(y.data.subarray(index * columns, (index + 1) * columns))) };
});

await app.listen({ host: "127.0.0.1", port: Number(port) });
