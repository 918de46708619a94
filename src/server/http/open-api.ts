import { DATATYPES } from '../../open-inference/datatypes.js';
import { SERVER_NAME } from '../inference/server-metadata.js';
import type { RestAreas } from './rest.js';

type Schema = Readonly<Record<string, unknown>>;

const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` });
const text: Schema = { type: 'string' };
const integer: Schema = { type: 'integer' };
const flag: Schema = { type: 'boolean' };
const list = (items: Schema): Schema => ({ type: 'array', items });
const object = (
  properties: Readonly<Record<string, Schema>>,
  required: readonly string[] = Object.keys(properties),
): Schema => ({
  ...{ type: 'object', properties },
  ...(required.length === 0 ? {} : { required }),
});
const json = (schema: Schema) => ({ 'application/json': { schema } });

const PARAMETERS: Schema = { type: 'object', additionalProperties: true };
const DATA: Schema = { description: 'Elements in row-major order, in one list or nested.', type: 'array', items: {} };
const TENSOR = {
  name: text,
  shape: list(integer),
  datatype: { type: 'string', enum: DATATYPES },
  parameters: PARAMETERS,
  data: DATA,
} as const;

const SCHEMAS: Readonly<Record<string, Schema>> = {
  Error: object({ error: text, code: text, retryable: flag, retryAfterMs: { type: 'number' } }, ['error']),
  Tensor: object(TENSOR, ['name', 'shape', 'datatype']),
  InferRequest: object(
    {
      id: text,
      parameters: {
        ...PARAMETERS,
        description:
          'timeout: microseconds. priority: 1 is the highest. sequence_id: the shardKey of an engine. binary_data_output: all outputs in binary form.',
      },
      inputs: list(ref('Tensor')),
      outputs: list(object({ name: text, parameters: PARAMETERS }, ['name'])),
    },
    ['inputs'],
  ),
  InferResponse: object(
    { model_name: text, model_version: text, id: text, parameters: PARAMETERS, outputs: list(ref('Tensor')) },
    ['model_name', 'outputs'],
  ),
  TensorMetadata: object({ name: text, datatype: TENSOR.datatype, shape: list(integer) }),
  ModelMetadata: object({
    name: text,
    versions: list(text),
    platform: text,
    inputs: list(ref('TensorMetadata')),
    outputs: list(ref('TensorMetadata')),
  }),
  IndexEntry: object({ name: text, version: text, state: text, reason: text }),
};

const MODEL = { name: 'model', in: 'path', required: true, schema: text };
const VERSION = { name: 'version', in: 'path', required: true, schema: text };

const answers = (content: object, description = 'The answer.') => ({
  200: { description, content },
  default: { description: 'An error; see the table of statuses.', content: json(ref('Error')) },
});

const BINARY = {
  'application/octet-stream': { schema: { type: 'string', format: 'binary' } },
};
const HEADER_LENGTH = {
  name: 'Inference-Header-Content-Length',
  in: 'header',
  required: false,
  schema: integer,
  description: 'Bytes of the JSON at the beginning of the body, when tensors in binary form follow it.',
};

const get = (summary: string, schema: Schema) => ({ get: { summary, responses: answers(json(schema)) } });

const ofModel = {
  '': get('The inputs and outputs of a model.', ref('ModelMetadata')),
  '/ready': get('Whether a request for the model would be taken now.', object({ name: text, ready: flag })),
  '/config': get("The part of Triton's configuration that clients read.", PARAMETERS),
  '/stats': get('What requests took so far.', object({ model_stats: list(PARAMETERS) })),
  '/infer': {
    post: {
      summary: 'Runs a model.',
      parameters: [HEADER_LENGTH],
      requestBody: { required: true, content: { ...json(ref('InferRequest')), ...BINARY } },
      responses: answers({ ...json(ref('InferResponse')), ...BINARY }),
    },
  },
  '/generate': {
    post: {
      summary: 'Gives a JSON object to a handler.',
      requestBody: { required: true, content: json(PARAMETERS) },
      responses: answers(json(PARAMETERS)),
    },
  },
  '/generate_stream': {
    post: {
      summary: 'The same, for a handler that answers with a stream.',
      requestBody: { required: true, content: json(PARAMETERS) },
      responses: answers({ 'text/event-stream': { schema: text } }, 'Each item is an event.'),
    },
  },
} as const;

function modelPaths(): Record<string, object> {
  const paths: Record<string, object> = {};
  for (const [action, operations] of Object.entries(ofModel)) {
    paths[`/v2/models/{model}${action}`] = { parameters: [MODEL], ...operations };
    paths[`/v2/models/{model}/versions/{version}${action}`] = { parameters: [MODEL, VERSION], ...operations };
  }
  return paths;
}

function adminPaths(): Record<string, object> {
  const post = (summary: string, body: Schema, schema: Schema) => ({
    post: { summary, requestBody: { content: json(body) }, responses: answers(json(schema)) },
  });
  const loads = { parameters: PARAMETERS };
  return {
    '/v2/repository/index': post('Lists the models.', object({ ready: flag }, []), list(ref('IndexEntry'))),
    '/v2/repository/models/{model}/load': {
      parameters: [MODEL],
      ...post('Loads a model, or takes the files of a new one.', object(loads, []), PARAMETERS),
    },
    '/v2/repository/models/{model}/unload': {
      parameters: [MODEL],
      ...post('Releases the sessions of a model.', object(loads, []), PARAMETERS),
    },
    '/v2/logging': {
      ...get('The level of the log.', PARAMETERS),
      ...post('Changes the level of the log.', PARAMETERS, PARAMETERS),
    },
  };
}

/** The OpenAPI document of the paths that a listener has. @param prefix under which they are; empty for none. */
export function openApi({ admin }: RestAreas, hasKeys: boolean, prefix: string): object {
  const { name, version } = SERVER_NAME;
  return {
    openapi: '3.1.0',
    info: { title: name, version, description: 'The Open Inference Protocol, version 2.', license: { name: 'MIT' } },
    ...(prefix === '' ? {} : { servers: [{ url: prefix }] }),
    ...(hasKeys ? { security: [{ bearer: [] }, { key: [] }] } : {}),
    paths: {
      '/v2/health/live': get('Whether the server runs.', object({ live: flag })),
      '/v2/health/ready': get('Whether the server answers inference requests.', object({ ready: flag })),
      '/v2/health/steady': get(
        'Whether it is ready, and gets the time of the processor that it wants.',
        object({ steady: flag }),
      ),
      '/v2': get('The server and its extensions.', object({ name: text, version: text, extensions: list(text) })),
      '/v2/node': get('This server as one of several: its load, and the versions of its models.', PARAMETERS),
      '/v2/models': get('Names of the models.', object({ models: list(text) })),
      '/v2/models/stats': get('What requests for all models took so far.', object({ model_stats: list(PARAMETERS) })),
      ...modelPaths(),
      ...(admin ? adminPaths() : {}),
      '/metrics': { get: { summary: 'Prometheus metrics.', responses: answers({ 'text/plain': { schema: text } }) } },
      '/openapi.json': get('This document.', PARAMETERS),
    },
    components: {
      schemas: SCHEMAS,
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer' },
        key: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
      },
    },
  };
}
