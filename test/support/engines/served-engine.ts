import { fileURLToPath } from 'node:url';
import { createEngine, type EngineOptions, type InferenceEngine } from '../../../dist/index.js';
import { createServer, type InferenceServer, type ServerOptions } from '../../../dist/server/index.js';
import { identityModel, lookUpModel, modelDirectory, pickyModel, scaleModel, slowRunModel } from '../onnx-models.js';
import { TENSOR_TYPES } from '../tensors.js';

export const SERVING_HANDLER = fileURLToPath(new URL('../serving-handler.mjs', import.meta.url));

/** Types in the order of the inputs `in0`, `in1`, … of the model `identity`. */
export const IDENTITY_TYPES = TENSOR_TYPES;

export const servedModels = () =>
  modelDirectory({
    'times-2': scaleModel(2),
    'times-3': scaleModel(3),
    wide: scaleModel(2, 4_096),
    huge: scaleModel(2, 1_000_000),
    picky: pickyModel(),
    'look-up': lookUpModel(),
    'slow-run': slowRunModel(40),
    identity: identityModel(IDENTITY_TYPES),
  });

export interface Served {
  readonly engine: InferenceEngine;
  readonly server: InferenceServer;
  /** The address of REST, and of gRPC. */
  readonly http: string;
  readonly grpc: string;
  close(): Promise<void>;
}

/** Starts a server on free ports, for an engine with small models, a handler and an endpoint. */
export async function startServed(server: ServerOptions = {}, engineOptions: EngineOptions = {}): Promise<Served> {
  const engine = await createEngine({
    models: servedModels(),
    replicas: 2,
    deployments: { handler: { handler: SERVING_HANDLER, replicas: 1, maxOngoingRequests: 64 } },
    ...engineOptions,
  });
  await engine.endpoints.set('public', { traffic: { 'times-2': 1 } });
  const own = await createServer(engine, { http: { port: 0 }, grpc: { port: 0 }, ...server });
  return {
    engine,
    server: own,
    http: `http://127.0.0.1:${own.http?.port}`,
    grpc: `127.0.0.1:${own.grpc?.port}`,
    async close() {
      await own.close();
      await engine.close();
    },
  };
}

/** An inference request for one of the scaling models. */
export const scaleRequest = (...values: number[]) => ({
  inputs: [{ name: 'x', shape: [1, 4], datatype: 'FP32', data: values }],
});
