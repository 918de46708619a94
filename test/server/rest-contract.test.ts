import fastify, { type FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEngine, type InferenceEngine } from '../../dist/index.js';
import { infermuxPlugin } from '../../dist/server/fastify.js';
import { ARRAY_TYPES } from '../../dist/tensors/tensor.js';
import { IDENTITY_TYPES, SERVING_HANDLER, scaleRequest, servedModels } from '../support/engines/served-engine.js';

let engine: InferenceEngine;
let app: FastifyInstance;

beforeAll(async () => {
  engine = await createEngine({
    models: servedModels(),
    replicas: 2,
    deployments: { handler: { handler: SERVING_HANDLER, replicas: 1, maxOngoingRequests: 8 } },
  });
  await engine.endpoints.set('public', { traffic: { 'times-2': 1 } });
  app = fastify();
  app.get('/own', () => ({ own: true }));
  await app.register(infermuxPlugin, { engine, admin: true, prefix: '/ml', limits: { bodyBytes: 1_000_000 } });
  await app.ready();
});
afterAll(async () => {
  await app.close();
  await engine.close();
});

interface Asked {
  readonly method?: 'GET' | 'POST' | 'DELETE' | 'HEAD';
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

async function ask(path: string, { method, body, headers = {} }: Asked = {}) {
  const payload = body === undefined || typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const response = await app.inject({
    method: method ?? (body === undefined ? 'GET' : 'POST'),
    url: `/ml${path}`,
    ...(payload === undefined ? {} : { payload }),
    headers,
  });
  const isJson = response.headers['content-type']?.toString().startsWith('application/json') === true;
  return {
    status: response.statusCode,
    headers: response.headers,
    bytes: response.rawPayload,
    json: isJson ? response.json() : undefined,
  };
}

describe('the REST side, as a plugin under a prefix', () => {
  it.each([
    ['/v2/health/live', { live: true }],
    ['/v2/health/ready', { ready: true }],
    [
      '/v2',
      { name: 'infermux', version: expect.any(String), extensions: expect.arrayContaining(['binary_tensor_data']) },
    ],
    ['/v2/', { name: 'infermux', version: expect.any(String), extensions: expect.any(Array) }],
    ['/v2/models', { models: expect.arrayContaining(['times-2', 'identity']) }],
    [
      '/v2/models/times-2',
      {
        name: 'times-2',
        versions: ['1'],
        platform: 'onnxruntime_onnx',
        inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 4] }],
        outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 4] }],
      },
    ],
    ['/v2/models/times-2/versions/1', { name: 'times-2', versions: ['1'] }],
    ['/v2/models/times-2%401', { name: 'times-2@1' }],
    ['/v2/models/public', { name: 'public', inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 4] }] }],
    ['/v2/models/handler', { name: 'handler', platform: 'infermux_handler', inputs: [], outputs: [] }],
    ['/v2/models/default/times-2', { name: 'default/times-2', outputs: [{ name: 'y' }] }],
    ['/v2/models/default%2Ftimes-2', { name: 'default/times-2', outputs: [{ name: 'y' }] }],
    ['/v2/models/times-2/ready', { name: 'times-2', ready: true }],
    ['/v2/models/times-2/versions/1/ready', { name: 'times-2', ready: true }],
    ['/v2/models/public/ready', { name: 'public', ready: true }],
    ['/v2/models/handler/ready', { name: 'handler', ready: true }],
    ['/v2/models/times-2/config', { name: 'times-2', backend: 'onnxruntime', max_batch_size: 0, dynamic_batching: {} }],
    ['/v2/models/stats', { model_stats: expect.any(Array) }],
    ['/v2/logging', { log_error: false, log_format: 'default' }],
  ])('answers GET %s', async (path, expected) => {
    expect(await ask(path)).toMatchObject({ status: 200, json: expected });
  });

  it.each([
    ['an unknown path', '/v2/nothing', {}, 404, 'nothing is at GET /ml/v2/nothing'],
    ['an unknown model', '/v2/models/none', {}, 404, 'no model "none"'],
    ['an unknown model that is asked whether it is ready', '/v2/models/none/ready', {}, 404, 'no model "none"'],
    ['an unknown version', '/v2/models/times-2/versions/9', {}, 404, 'no model "times-2@9"'],
    ['a version that is none', '/v2/models/times-2/versions/x', {}, 404, '@x'],
    ['a wrong method', '/v2/models/times-2/infer', { method: 'GET' }, 405, 'the method must be POST'],
    ['a wrong method of a fixed path', '/v2/health/live', { method: 'DELETE' }, 405, 'the method must be GET'],
    ['no JSON', '/v2/models/times-2/infer', { body: '{' }, 400, 'the body must be JSON'],
    ['an empty body', '/v2/models/times-2/infer', { method: 'POST' }, 400, 'the body must be JSON'],
    ['a list', '/v2/models/times-2/infer', { body: [] }, 400, 'the body must be a JSON object'],
    ['no inputs', '/v2/models/times-2/infer', { body: {} }, 400, 'inputs must be a list'],
    [
      'an input of another name',
      '/v2/models/times-2/infer',
      { body: { inputs: [{ name: 'z', shape: [1, 4], datatype: 'FP32', data: [1, 2, 3, 4] }] } },
      400,
      'input "x" is missing',
    ],
    [
      'an input of another type',
      '/v2/models/times-2/infer',
      { body: { inputs: [{ name: 'x', shape: [1, 4], datatype: 'INT32', data: [1, 2, 3, 4] }] } },
      400,
      'must be float32, got int32',
    ],
    [
      'an input of another shape',
      '/v2/models/times-2/infer',
      { body: { inputs: [{ name: 'x', shape: [4], datatype: 'FP32', data: [1, 2, 3, 4] }] } },
      400,
      'must have dims [N, 4], got [4]',
    ],
    [
      'an output of another name',
      '/v2/models/times-2/infer',
      { body: { ...scaleRequest(1, 2, 3, 4), outputs: [{ name: 'q' }] } },
      400,
      'no output "q"',
    ],
    [
      'an output twice',
      '/v2/models/times-2/infer',
      { body: { ...scaleRequest(1, 2, 3, 4), outputs: [{ name: 'y' }, { name: 'y' }] } },
      400,
      'outputs names "y" twice',
    ],
    [
      'an output that is none',
      '/v2/models/times-2/infer',
      { body: { ...scaleRequest(1, 2, 3, 4), outputs: ['y'] } },
      400,
      'outputs[0] must be an output',
    ],
    [
      'a model that fails',
      '/v2/models/look-up/infer',
      { body: { inputs: [{ name: 'index', shape: [1, 1], datatype: 'INT64', data: [9] }] } },
      422,
      'look-up',
    ],
    [
      'a time-out',
      '/v2/models/slow-run/infer',
      { body: { parameters: { timeout: 1 }, inputs: [{ name: 'x', shape: [1], datatype: 'FP32', data: [1] }] } },
      504,
      '',
    ],
    [
      'a time-out in microseconds',
      '/v2/models/handler/generate',
      { body: { ms: 4_000, parameters: { method: 'wait', timeout: 100_000 } } },
      504,
      '',
    ],
    [
      'a time-out that is none',
      '/v2/models/times-2/infer',
      { body: { ...scaleRequest(1, 2, 3, 4), parameters: { timeout: 'soon' } } },
      400,
      'parameters.timeout must be an integer',
    ],
    [
      'a priority that is none',
      '/v2/models/times-2/infer',
      { body: { ...scaleRequest(1, 2, 3, 4), parameters: { priority: -1 } } },
      400,
      'parameters.priority',
    ],
    [
      'parameters that are none',
      '/v2/models/times-2/infer',
      { body: { ...scaleRequest(1, 2, 3, 4), parameters: 1 } },
      400,
      'the request.parameters must be an object',
    ],
    [
      'an id that is none',
      '/v2/models/times-2/infer',
      { body: { ...scaleRequest(1, 2, 3, 4), id: 7 } },
      400,
      'id must be a string',
    ],
    [
      'shared memory',
      '/v2/models/times-2/infer',
      { body: { inputs: [{ name: 'x', shape: [1, 4], datatype: 'FP32', parameters: { shared_memory_region: 'r' } }] } },
      400,
      'shared memory is not supported',
    ],
    [
      'a request to generate that is too large',
      '/v2/models/handler/generate',
      { body: 'x'.repeat(1_000_001) },
      413,
      'at most 1000000 bytes (limits.bodyBytes)',
    ],
    [
      'a body that is too large',
      '/v2/models/times-2/infer',
      { body: 'x'.repeat(1_000_001) },
      413,
      'at most 1000000 bytes',
    ],
    [
      'a header that is no number',
      '/v2/models/times-2/infer',
      { body: '{}', headers: { 'inference-header-content-length': 'x' } },
      400,
      'must be a number of bytes, got "x"',
    ],
    [
      'a negative header',
      '/v2/models/times-2/infer',
      { body: '{}', headers: { 'inference-header-content-length': '-1' } },
      400,
      'must be a number of bytes, got "-1"',
    ],
    [
      'a header beyond the body',
      '/v2/models/times-2/infer',
      { body: '{}', headers: { 'inference-header-content-length': '3' } },
      400,
      'Inference-Header-Content-Length is 3, but the body has at most 2 bytes',
    ],
    [
      'an unknown compression',
      '/v2/models/times-2/infer',
      { body: '{}', headers: { 'content-encoding': 'br' } },
      400,
      'must be gzip, deflate or identity',
    ],
    [
      'a body that is not compressed as it says',
      '/v2/models/times-2/infer',
      { body: '{}', headers: { 'content-encoding': 'gzip' } },
      400,
      'the body cannot be read',
    ],
    [
      'a handler that throws',
      '/v2/models/handler/generate',
      { body: { parameters: { method: 'fail' } } },
      422,
      'as asked',
    ],
    ['a stream of what is none', '/v2/models/handler/generate_stream', { body: {} }, 400, 'stream'],
    ['a configuration of a handler', '/v2/models/handler/config', {}, 400, 'is a deployment with a handler'],
    [
      'a repository of a name',
      '/v2/repository/mine/index',
      { body: {} },
      400,
      'there is one repository, which has no name',
    ],
    [
      'a path of the repository that is none',
      '/v2/repository/models/times-2/drop',
      { body: {} },
      404,
      'must end with /load or /unload',
    ],
    ['a load of an unknown model', '/v2/repository/models/none/load', { body: {} }, 404, 'no model "none"'],
    [
      'a configuration that is none',
      '/v2/repository/models/times-2/load',
      { body: { parameters: { config: '[]' } } },
      400,
      'parameters.config: expected',
    ],
    [
      'a configuration of a handler',
      '/v2/repository/models/handler/load',
      { body: { parameters: { config: '{}' } } },
      400,
      'handler is no model',
    ],
    [
      'a load of files that lead elsewhere',
      '/v2/repository/models/evil/load',
      { body: { parameters: { 'file:1/../../../x/model.onnx': 'AAAA' } } },
      400,
      '',
    ],
    [
      'a load of files that are no base64',
      '/v2/repository/models/evil/load',
      { body: { parameters: { 'file:1/model.onnx': '*' } } },
      400,
      'must be base64',
    ],
    ['a change of a log that has no level', '/v2/logging', { body: { log_info: true } }, 400, 'has no level'],
  ])('refuses %s', async (_, path, asked, status, message) => {
    const answer = await ask(path, asked as Asked);
    expect(answer).toMatchObject({ status, json: { error: expect.stringContaining(message) } });
    expect(answer.json.code).toMatch(/^[A-Z_]+$/);
  });

  it('names the methods that a path has', async () => {
    expect((await ask('/v2/logging', { method: 'DELETE' })).headers['allow']).toBe('GET, POST');
  });

  it('leaves the rest of the program as it was', async () => {
    const { headers, body } = await app.inject('/own');
    expect(JSON.parse(body)).toStrictEqual({ own: true });
    expect(headers['x-request-id']).toBeUndefined();
    expect((await app.inject({ method: 'POST', url: '/other' })).json()).toMatchObject({ error: 'Not Found' });
  });

  it('repeats the id, and the name of the request', async () => {
    const body = { ...scaleRequest(1, 2, 3, 4), id: 'mine' };
    const answer = await ask('/v2/models/times-2/infer', { body, headers: { 'x-request-id': 'r-1' } });
    expect(answer).toMatchObject({ status: 200, headers: { 'x-request-id': 'r-1' } });
    expect(answer.json).toStrictEqual({
      model_name: 'times-2',
      model_version: '1',
      id: 'mine',
      outputs: [{ name: 'y', datatype: 'FP32', shape: [1, 4], data: [2, 4, 6, 8] }],
    });
  });

  it.each(['/v2/models/times-2/versions/1/infer', '/v2/models/public/infer', '/v2/models/default/times-2/infer'])(
    'runs a model by POST %s',
    async (path) => {
      const { json } = await ask(path, { body: scaleRequest(1, 2, 3, 4) });
      expect(json.outputs[0].data).toStrictEqual([2, 4, 6, 8]);
    },
  );

  it('ignores unknown parameters, and gives them to handlers as hints', async () => {
    const parameters = { tokens: 5, sequence_id: 'k', priority: 1, sequence_start: true, binary_data_output: false };
    expect((await ask('/v2/models/times-2/infer', { body: { ...scaleRequest(1, 2, 3, 4), parameters } })).status).toBe(
      200,
    );
    const { json } = await ask('/v2/models/handler/generate', {
      body: { text: 'hello', parameters },
      headers: { 'x-request-id': 'r-2' },
    });
    expect(json).toStrictEqual({
      ...{ model_name: 'handler', model_version: '1', request: { text: 'hello' }, requestId: 'r-2' },
      ...{ hints: { tokens: 5 }, shardKey: 'k', priority: 1_000_000 },
    });
  });

  it('answers with what a handler answers', async () => {
    const generate = async (value: unknown) =>
      (await ask('/v2/models/handler/generate', { body: { value, parameters: { method: 'answer' } } })).json;
    const names = { model_name: 'handler', model_version: '1' };
    expect(await generate('text')).toStrictEqual({ ...names, output: 'text' });
    expect(await generate([1])).toStrictEqual({ ...names, output: [1] });
    expect(await generate(null)).toStrictEqual({ ...names, output: null });
    expect(await generate('big')).toStrictEqual({ ...names, large: '9223372036854775808', list: [1, 2.5], set: [1] });
  });

  it('gives a handler tensors, or the JSON in one, and answers likewise', async () => {
    const x = { name: 'x', shape: [2], datatype: 'FP32', data: [1, 2] };
    const sum = await ask('/v2/models/handler/infer', { body: { inputs: [x], parameters: { method: 'sum' } } });
    expect(sum.json.outputs).toStrictEqual([{ name: 'sum', datatype: 'FP32', shape: [1], data: [3] }]);
    const request = { name: 'request', shape: [1], datatype: 'BYTES', data: ['{"value":[1]}'] };
    const json = await ask('/v2/models/handler/infer', {
      body: { inputs: [request], parameters: { method: 'answer' } },
    });
    expect(json.json.outputs).toStrictEqual([
      { name: 'response', datatype: 'BYTES', shape: [1], parameters: { infermux_json: true }, data: ['[1]'] },
    ]);
  });

  it('streams the items of an answer as events, with an error at the end if there is one', async () => {
    const stream = async (request: object) => {
      const body = { ...request, parameters: { method: 'count' } };
      const { headers, bytes } = await ask('/v2/models/handler/generate_stream', { body });
      expect(headers['content-type']).toBe('text/event-stream');
      return bytes.toString();
    };
    expect(await stream({ to: 3 })).toBe('data: {"index":0}\n\ndata: {"index":1}\n\ndata: {"index":2}\n\n');
    const failed = (await stream({ to: 3, throwAt: 1 })).split('\n\n');
    expect(failed[0]).toBe('data: {"index":0}');
    expect(failed[1]).toMatch(/^event: error\ndata: /);
    expect(JSON.parse((failed[1] as string).slice(19))).toMatchObject({ code: 'INFERENCE_FAILED' });
    const early = await ask('/v2/models/handler/generate_stream', {
      body: { to: 3, throwAt: 0, parameters: { method: 'count' } },
    });
    expect(early).toMatchObject({ status: 422, json: { code: 'INFERENCE_FAILED' } });
  });

  it('answers with the classes of the best scores', async () => {
    const outputs = [{ name: 'y', parameters: { classification: 2 } }];
    const { json } = await ask('/v2/models/times-2/infer', { body: { ...scaleRequest(1, 4, 3, 2), outputs } });
    expect(json.outputs).toStrictEqual([
      { name: 'y', datatype: 'BYTES', shape: [1, 2], data: ['8.000000:1', '6.000000:2'] },
    ]);
  });

  it('tells what requests took', async () => {
    const before = (await ask('/v2/models/times-3/stats')).json.model_stats[0];
    await Promise.all([1, 2, 3].map(() => ask('/v2/models/times-3/infer', { body: scaleRequest(1, 2, 3, 4) })));
    await ask('/v2/models/times-3/infer', { body: { inputs: [] } });
    const { json } = await ask('/v2/models/times-3/versions/1/stats');
    const [{ name, version, inference_count, execution_count, inference_stats, batch_stats, last_inference }] =
      json.model_stats;
    expect({ name, version, inference_count }).toStrictEqual({
      name: 'times-3',
      version: '1',
      inference_count: before.inference_count + 3,
    });
    expect(execution_count).toBeGreaterThanOrEqual(1);
    expect(last_inference).toBeGreaterThan(Date.now() - 60_000);
    expect(inference_stats.success).toMatchObject({ count: 3, ns: expect.any(Number) });
    expect(inference_stats.fail.count).toBe(1);
    const { queue, compute_input, compute_infer, compute_output } = inference_stats;
    const parts = [queue, compute_input, compute_infer, compute_output].reduce((sum, { ns }) => sum + ns, 0);
    expect(Math.abs(parts - inference_stats.success.ns)).toBeLessThan(10);
    const runs = batch_stats.reduce(
      (sum: number, { compute_infer: { count } }: { compute_infer: { count: number } }) => sum + count,
      0,
    );
    expect(runs).toBe(execution_count);
  });

  it('lists, loads and unloads models, and takes new ones', async () => {
    const index = async (body: object) => (await ask('/v2/repository/index', { body })).json;
    expect(await index({})).toContainEqual({ name: 'times-3', version: '1', state: 'READY', reason: '' });
    expect((await ask('/v2/repository/index', { method: 'POST' })).status).toBe(200);
    expect((await ask('/v2/repository/models/times-3/load', { method: 'POST' })).json).toStrictEqual({});
    expect(engine.models.get('times-3').replicas.some(({ state }) => state === 'loaded')).toBe(true);
    expect((await ask('/v2/repository/models/times-3/unload', { body: {} })).json).toStrictEqual({});
    expect(engine.models.get('times-3').replicas.some(({ state }) => state === 'loaded')).toBe(false);
    const model = (await import('../support/onnx-models.js')).scaleModel(9);
    const config = JSON.stringify({ max_batch_size: 4, dynamic_batching: { max_queue_delay_microseconds: 500 } });
    const parameters = { config, 'file:1/model.onnx': Buffer.from(model).toString('base64') };
    expect(await ask('/v2/repository/models/new/load', { body: { parameters } })).toMatchObject({ status: 200 });
    expect((await ask('/v2/models/new/infer', { body: scaleRequest(1, 1, 1, 1) })).json.outputs[0].data).toStrictEqual([
      9, 9, 9, 9,
    ]);
    const again = await ask('/v2/repository/models/new/load', { body: { parameters } });
    expect(again).toMatchObject({ status: 409, json: { code: 'MODEL_ALREADY_EXISTS' } });
    expect(await index({ ready: true })).toContainEqual({ name: 'new', version: '1', state: 'READY', reason: '' });
  });

  it('loads a model with a configuration, which holds until the next load', async () => {
    const load = (parameters: object) => ask('/v2/repository/models/times-3/load', { body: { parameters } });
    const isDynamic = async () => 'dynamic_batching' in (await ask('/v2/models/times-3/config')).json;
    const warmUp = { name: 'w', batch_size: 1, inputs: { x: { data_type: 'TYPE_FP32', dims: [4], zero_data: true } } };
    const configOf = (more: object) => JSON.stringify({ max_batch_size: 8, ...more });
    expect(await load({ config: configOf({ model_warmup: [warmUp] }) })).toMatchObject({ status: 200, json: {} });
    expect(await isDynamic()).toBe(true);
    const bad = { ...warmUp, inputs: { nothing: warmUp.inputs.x } };
    expect(await load({ config: configOf({ model_warmup: [bad] }) })).toMatchObject({
      status: 422,
      json: { code: 'MODEL_LOAD_FAILED' },
    });
    expect(await load({})).toMatchObject({ status: 200 });
    expect((await ask('/v2/models/times-3/infer', { body: scaleRequest(1, 1, 1, 1) })).status).toBe(200);
  });

  it('shows its metrics beside those of the engine', async () => {
    const { bytes, headers } = await ask('/metrics');
    expect(headers['content-type']).toContain('text/plain');
    expect(bytes.toString()).toMatch(
      /^infermux_server_requests_total\{protocol="http",method="ModelInfer",code="200"\} [1-9]/m,
    );
    expect(bytes.toString()).toContain('infermux_router_requests_total');
    const ongoing = /^infermux_server_ongoing_requests (\d+)$/m.exec(bytes.toString())?.[1];
    expect(ongoing).toBe('0');
  });
});

describe('every data type', () => {
  const values: Readonly<Record<string, readonly [string, string]>> = {
    float32: ['FP32', '[1.5,-2.25,NaN,Infinity]'],
    float64: ['FP64', '[0.1,-1e+300,-Infinity,5e-324]'],
    int8: ['INT8', '[-128,127,0,1]'],
    uint8: ['UINT8', '[0,255,1,2]'],
    int16: ['INT16', '[-32768,32767,0,1]'],
    uint16: ['UINT16', '[0,65535,1,2]'],
    int32: ['INT32', '[-2147483648,2147483647,0,1]'],
    uint32: ['UINT32', '[0,4294967295,1,2]'],
    int64: ['INT64', '[-9223372036854775808,9223372036854775807,9007199254740993,0]'],
    uint64: ['UINT64', '[0,18446744073709551615,9007199254740993,1]'],
    bool: ['BOOL', '[true,false,false,true]'],
    string: ['BYTES', '["a","é\\n","","\\"q\\""]'],
  };
  const inputs = IDENTITY_TYPES.map((type, index) => ({ type, name: `in${index}`, out: `out${index}` }));

  it('goes both ways as JSON with all its digits; FP16 in binary form', async () => {
    const half = Buffer.from(Uint16Array.of(0x3c00, 0x7e00, 0xfc00, 0x0001).buffer);
    const parts = inputs.map(({ type, name }) => {
      const [datatype, data] = values[type] ?? ['FP16', undefined];
      const rest = data === undefined ? `"parameters":{"binary_data_size":8}` : `"data":${data}`;
      return `{"name":"${name}","shape":[2,2],"datatype":"${datatype}",${rest}}`;
    });
    const outputs = inputs.map(({ type, out }) => ({ name: out, parameters: { binary_data: type === 'float16' } }));
    const json = Buffer.from(`{"inputs":[${parts}],"outputs":${JSON.stringify(outputs)}}`);
    const answer = await ask('/v2/models/identity/infer', {
      body: Buffer.concat([json, half]),
      headers: { 'inference-header-content-length': String(json.length) },
    });
    expect(answer.status).toBe(200);
    const length = Number(answer.headers['inference-header-content-length']);
    const text = answer.bytes.subarray(0, length).toString();
    for (const { type, out } of inputs) {
      const [datatype, data] = values[type] ?? ['FP16', undefined];
      const rest = data === undefined ? '"parameters":{"binary_data_size":8}' : `"data":${data}`;
      expect(text).toContain(`{"name":"${out}","datatype":"${datatype}","shape":[2,2],${rest}}`);
    }
    expect(answer.bytes.subarray(length)).toStrictEqual(half);
  });

  it('refuses to write FP16 as JSON', async () => {
    const index = IDENTITY_TYPES.indexOf('float16');
    const sizes = IDENTITY_TYPES.map((type) => (type === 'string' ? 8 : 2 * ARRAY_TYPES[type].BYTES_PER_ELEMENT));
    const own = inputs.map(({ type, name }, at) => ({
      ...{ name, shape: [1, 2], datatype: (values[type] ?? ['FP16'])[0] },
      parameters: { binary_data_size: sizes[at] },
    }));
    const json = Buffer.from(JSON.stringify({ inputs: own, outputs: [{ name: `out${index}` }] }));
    const zeros = Buffer.alloc(sizes.reduce((sum, size) => sum + size, 0));
    const answer = await ask('/v2/models/identity/infer', {
      body: Buffer.concat([json, zeros]),
      headers: { 'inference-header-content-length': String(json.length) },
    });
    expect(answer).toMatchObject({
      status: 400,
      json: { error: expect.stringContaining('is FP16, which has no JSON form') },
    });
  });
});

describe('the binary form', () => {
  const x = (rest: object) => ({ name: 'x', shape: [1, 4], datatype: 'FP32', ...rest });
  const floats = Buffer.from(Float32Array.of(1, 2, 3, 4).buffer);
  const binary = (message: object, ...raw: Buffer[]) => {
    const json = Buffer.from(JSON.stringify(message));
    return { body: Buffer.concat([json, ...raw]), headers: { 'inference-header-content-length': String(json.length) } };
  };
  const infer = (asked: Asked) => ask('/v2/models/times-2/infer', asked);

  it.each([
    ['nothing', undefined, undefined, false],
    ['all', true, undefined, true],
    ['this output', undefined, true, true],
    ['all but this output', true, false, false],
    ['none but this output', false, true, true],
  ])('answers in it when the request wants so for %s', async (_, all, own, isBinary) => {
    const message = {
      inputs: [x({ parameters: { binary_data_size: 16 } })],
      ...(all === undefined ? {} : { parameters: { binary_data_output: all } }),
      ...(own === undefined ? {} : { outputs: [{ name: 'y', parameters: { binary_data: own } }] }),
    };
    const { status, headers, bytes } = await infer(binary(message, floats));
    expect(status).toBe(200);
    if (!isBinary) {
      expect(headers['inference-header-content-length']).toBeUndefined();
      expect(JSON.parse(bytes.toString()).outputs[0].data).toStrictEqual([2, 4, 6, 8]);
      return;
    }
    const length = Number(headers['inference-header-content-length']);
    expect(headers['content-type']).toBe('application/octet-stream');
    expect(JSON.parse(bytes.subarray(0, length).toString()).outputs).toStrictEqual([
      { name: 'y', datatype: 'FP32', shape: [1, 4], parameters: { binary_data_size: 16 } },
    ]);
    expect(bytes.subarray(length)).toStrictEqual(Buffer.from(Float32Array.of(2, 4, 6, 8).buffer));
  });

  it('needs no content type, and takes any', async () => {
    const message = { inputs: [x({ parameters: { binary_data_size: 16 } })] };
    for (const type of ['application/json', 'text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data']) {
      const { body, headers } = binary(message, floats);
      expect(await infer({ body, headers: { ...headers, 'content-type': type } })).toMatchObject({ status: 200 });
    }
  });

  it.each([
    ['too few bytes for the shape', { parameters: { binary_data_size: 12 } }, floats, 'takes 16 bytes, got 12'],
    ['a body that is shorter', { parameters: { binary_data_size: 16 } }, floats.subarray(1), 'take'],
    ['a body that is longer', { parameters: { binary_data_size: 16 } }, Buffer.concat([floats, floats]), 'take'],
    ['a size that is none', { parameters: { binary_data_size: 'x' } }, floats, 'must be a number of bytes'],
    ['a negative size', { parameters: { binary_data_size: -16 } }, floats, 'must be a number of bytes'],
    ['data in both forms', { parameters: { binary_data_size: 16 }, data: [1, 2, 3, 4] }, floats, 'it has both'],
  ])('is refused with %s', async (_, rest, raw, message) => {
    const answer = await infer(binary({ inputs: [x(rest)] }, raw));
    expect(answer).toMatchObject({ status: 400, json: { error: expect.stringContaining(message) } });
  });

  it('needs the header that says how long the JSON is', async () => {
    const message = { inputs: [x({ parameters: { binary_data_size: 16 } })] };
    const answer = await infer({ body: message });
    expect(answer).toMatchObject({ status: 400, json: { error: expect.stringContaining('needs the header') } });
  });

  it('may be all of the body: then so is the answer', async () => {
    const { status, headers, bytes } = await infer({
      body: floats,
      headers: { 'inference-header-content-length': '0' },
    });
    expect(status).toBe(200);
    const length = Number(headers['inference-header-content-length']);
    expect(bytes.subarray(length)).toStrictEqual(Buffer.from(Float32Array.of(2, 4, 6, 8).buffer));
    const odd = await infer({ body: floats.subarray(1), headers: { 'inference-header-content-length': '0' } });
    expect(odd).toMatchObject({ status: 400, json: { error: expect.stringContaining('takes') } });
    const two = await ask('/v2/models/identity/infer', {
      body: floats,
      headers: { 'inference-header-content-length': '0' },
    });
    expect(two).toMatchObject({
      status: 400,
      json: { error: expect.stringContaining('is for models with one input') },
    });
  });
});
