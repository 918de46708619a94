import { fileURLToPath } from 'node:url';
import { loadSync, type MethodDefinition, type PackageDefinition, type ServiceDefinition } from '@grpc/proto-loader';
import {
  decodeRequest,
  decodeResponse,
  decodeStreamResponse,
  encodeRequest,
  encodeResponse,
  encodeStreamResponse,
} from './infer-codec.js';

const DIRECTORY = fileURLToPath(new URL('../../../proto/', import.meta.url));
const OPTIONS = { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true } as const;

export const INFERENCE_SERVICE = 'inference.GRPCInferenceService';
export const HEALTH_SERVICE = 'grpc.health.v1.Health';

/** Names and messages of the services, as the files in `proto` define them. */
export function loadDefinitions(): PackageDefinition {
  return loadSync(['open_inference.proto', 'health.proto'], { ...OPTIONS, includeDirs: [DIRECTORY] });
}

type Method = MethodDefinition<object, object>;

/** Returns the service of the protocol. The messages with tensors are read and written by the project's own codec. */
export function inferenceServiceOf(definitions: PackageDefinition): ServiceDefinition {
  const service = definitions[INFERENCE_SERVICE] as ServiceDefinition;
  return {
    ...service,
    ModelInfer: {
      ...(service['ModelInfer'] as Method),
      requestSerialize: encodeRequest,
      requestDeserialize: decodeRequest,
      responseSerialize: encodeResponse,
      responseDeserialize: decodeResponse,
    },
    ModelStreamInfer: {
      ...(service['ModelStreamInfer'] as Method),
      requestSerialize: encodeRequest,
      requestDeserialize: decodeRequest,
      responseSerialize: encodeStreamResponse,
      responseDeserialize: decodeStreamResponse,
    },
  } as unknown as ServiceDefinition;
}

export function healthServiceOf(definitions: PackageDefinition): ServiceDefinition {
  return definitions[HEALTH_SERVICE] as ServiceDefinition;
}
