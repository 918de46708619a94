// What one would write by hand, without a model: each answers what the server answers to the same request.
import { createServer } from 'node:http';
import grpc from '@grpc/grpc-js';
import fastify from 'fastify';

/** The answers of the server, and the length of the binary one. */
const { json, binaryBytes, grpcAnswer } = JSON.parse(process.argv[2]);

const app = fastify();
app.post('/v2/models/digits-mlp/infer', ({ body }) => {
  if (!Array.isArray(body.inputs)) throw new Error('no inputs');
  return json;
});
await app.listen({ port: 0, host: '127.0.0.1' });

const answer = Buffer.alloc(binaryBytes, 1);
const plain = createServer((request, response) => {
  const body = Buffer.allocUnsafeSlow(Number(request.headers['content-length']));
  let at = 0;
  request.on('data', (piece) => {
    body.set(piece, at);
    at += piece.length;
  });
  request.on('end', () => {
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': answer.length });
    response.end(answer);
  });
});
await new Promise((resolve) => plain.listen(0, '127.0.0.1', resolve));

const echo = new grpc.Server();
const bytes = (given) => given;
const own = Buffer.from(grpcAnswer, 'base64');
echo.addService(
  {
    ModelInfer: {
      path: '/inference.GRPCInferenceService/ModelInfer',
      requestStream: false,
      responseStream: false,
      requestSerialize: bytes,
      requestDeserialize: bytes,
      responseSerialize: bytes,
      responseDeserialize: bytes,
    },
  },
  { ModelInfer: (_call, callback) => callback(null, own) },
);
const grpcPort = await new Promise((resolve, reject) => {
  echo.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) =>
    error === null ? resolve(port) : reject(error),
  );
});

process.on('disconnect', () => process.exit(0));
process.send({ fastify: app.server.address().port, http: plain.address().port, grpc: grpcPort });
