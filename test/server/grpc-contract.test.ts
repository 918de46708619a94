import { fileURLToPath } from 'node:url';
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Served, startServed } from '../support/engines/served-engine.js';

/** The protocol by the loader alone, as a program of another language would have it. */
const definitions = loadSync(['open_inference.proto', 'health.proto'], {
  includeDirs: [fileURLToPath(new URL('../../proto', import.meta.url))],
  ...{ keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true },
});

let served: Served;
let client: Client;

beforeAll(async () => {
  served = await startServed({ limits: { bodyBytes: 1_000_000 } });
  client = new Client(served.grpc, credentials.createInsecure());
});
afterAll(async () => {
  client.close();
  await served.close();
});

type Answer = Readonly<Record<string, never>>;
type Method = { path: string; requestSerialize(value: object): Buffer; responseDeserialize(bytes: Buffer): object };

const methodOf = (name: string, service = 'inference.GRPCInferenceService') =>
  (definitions[service] as unknown as Record<string, Method>)[name] as Method;

function call(
  name: string,
  request: object,
  service?: string,
  metadata = new Metadata(),
  deadlineMs = 20_000,
): Promise<Answer> {
  const { path, requestSerialize, responseDeserialize } = methodOf(name, service);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
      { deadline: Date.now() + deadlineMs },
      (error, answer) => (error === null ? resolve(answer as Answer) : reject(error)),
    );
  });
}

const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => 'answered',
    (error: ServiceError) => ({
      code: error.code,
      details: error.details,
      own: error.metadata.get('infermux-code')[0],
    }),
  );

const floats = (...values: number[]) => Buffer.from(Float32Array.from(values).buffer);
const x = { name: 'x', datatype: 'FP32', shape: [1, 4] };
const raw = { model_name: 'times-2', id: 'mine', inputs: [x], raw_input_contents: [floats(1, 2, 3, 4)] };
const typed = { model_name: 'times-2', inputs: [{ ...x, contents: { fp32_contents: [1, 2, 3, 4] } }] };

describe('the gRPC service', () => {
  it.each([
    ['ServerLive', {}, { live: true }],
    ['ServerReady', {}, { ready: true }],
    ['ModelReady', { name: 'times-2' }, { ready: true }],
    ['ModelReady', { name: 'times-2', version: '1' }, { ready: true }],
    ['ServerMetadata', {}, { name: 'infermux', extensions: expect.arrayContaining(['model_repository']) }],
    [
      'ModelMetadata',
      { name: 'times-2' },
      {
        name: 'times-2',
        versions: ['1'],
        inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 4] }],
        outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 4] }],
      },
    ],
    ['ModelMetadata', { name: 'public' }, { name: 'public', platform: 'onnxruntime_onnx' }],
    [
      'ModelConfig',
      { name: 'times-2' },
      { config: { name: 'times-2', max_batch_size: 0, input: [{ name: 'x', data_type: 'TYPE_FP32', dims: [-1, 4] }] } },
    ],
    ['ModelStatistics', {}, { model_stats: expect.any(Array) }],
    ['ModelStatistics', { name: 'times-2' }, { model_stats: [{ name: 'times-2', version: '1' }] }],
    [
      'RepositoryIndex',
      {},
      { models: expect.arrayContaining([{ name: 'times-3', version: '1', state: 'READY', reason: '' }]) },
    ],
    ['RepositoryModelLoad', { model_name: 'times-3' }, {}],
    ['RepositoryModelUnload', { model_name: 'times-3' }, {}],
    ['LogSettings', {}, { settings: { log_format: { string_param: 'default' }, log_error: { bool_param: false } } }],
    [
      'ModelInfer',
      raw,
      {
        model_name: 'times-2',
        model_version: '1',
        id: 'mine',
        outputs: [{ name: 'y', datatype: 'FP32', shape: [1, 4] }],
        raw_output_contents: [floats(2, 4, 6, 8)],
      },
    ],
    [
      'ModelInfer',
      { ...raw, model_name: 'public' },
      { model_name: 'public', raw_output_contents: [floats(2, 4, 6, 8)] },
    ],
    ['ModelInfer', { ...raw, model_name: 'default/times-2' }, { raw_output_contents: [floats(2, 4, 6, 8)] }],
    [
      'ModelInfer',
      { ...raw, model_version: '1', outputs: [{ name: 'y' }] },
      { raw_output_contents: [floats(2, 4, 6, 8)] },
    ],
    ['ModelInfer', typed, { outputs: [{ contents: { fp32_contents: [2, 4, 6, 8] } }], raw_output_contents: [] }],
    [
      'ModelInfer',
      { ...raw, outputs: [{ name: 'y', parameters: { classification: { int64_param: 1 } } }] },
      { outputs: [{ datatype: 'BYTES', shape: [1, 1] }] },
    ],
  ])('answers %s of %j', async (name, request, expected) => {
    expect(await call(name, request)).toMatchObject(expected);
  });

  it('never sends the field of metadata that servers define differently', async () => {
    const { path, requestSerialize } = methodOf('ModelMetadata');
    const bytes = await new Promise<Buffer>((resolve, reject) => {
      client.makeUnaryRequest(
        path,
        requestSerialize,
        (answer: Buffer) => answer,
        { name: 'times-2' },
        (error, answer) => (error === null ? resolve(answer as Buffer) : reject(error)),
      );
    });
    // The fields of the message are all of wire type 2.
    expect([...fieldsOf(bytes)]).not.toContain(6);
  });

  it.each([
    ['an unknown model', { ...raw, model_name: 'none' }, 5, 'no model "none"', 'MODEL_NOT_FOUND'],
    ['an unknown version', { ...raw, model_version: '9' }, 5, 'times-2@9', 'MODEL_NOT_FOUND'],
    ['no inputs', { model_name: 'times-2' }, 3, 'input "x" is missing', 'INVALID_ARGUMENT'],
    [
      'too few raw contents',
      { ...raw, inputs: [x, { ...x, name: 'z' }] },
      3,
      'one entry for each of the 2 inputs, got 1',
      'INVALID_ARGUMENT',
    ],
    [
      'both kinds of contents',
      { ...typed, raw_input_contents: [floats(1, 2, 3, 4)] },
      3,
      'must have no contents beside',
      'INVALID_ARGUMENT',
    ],
    [
      'raw contents of another size',
      { ...raw, raw_input_contents: [floats(1)] },
      3,
      'takes 16 bytes, got 4',
      'INVALID_ARGUMENT',
    ],
    [
      'contents of another type',
      { model_name: 'times-2', inputs: [{ ...x, contents: { int_contents: [1, 2, 3, 4] } }] },
      3,
      'FP32 belongs in fp32_contents, got int_contents',
      'INVALID_ARGUMENT',
    ],
    [
      'a shape that overflows',
      { ...raw, inputs: [{ ...x, shape: [2 ** 60 + 2, 4] }] },
      3,
      'shape must be a list',
      'INVALID_ARGUMENT',
    ],
    ['a negative shape', { ...raw, inputs: [{ ...x, shape: [-1, 4] }] }, 3, 'shape must be a list', 'INVALID_ARGUMENT'],
    [
      'an unknown data type',
      { ...raw, inputs: [{ ...x, datatype: 'FP8' }] },
      3,
      'datatype must be one of',
      'INVALID_ARGUMENT',
    ],
    [
      'an input twice',
      { ...raw, inputs: [x, x], raw_input_contents: [floats(1, 2, 3, 4), floats(1, 2, 3, 4)] },
      3,
      'inputs names "x" twice',
      'INVALID_ARGUMENT',
    ],
    ['an unknown output', { ...raw, outputs: [{ name: 'q' }] }, 3, 'no output "q"', 'INVALID_ARGUMENT'],
    [
      'shared memory',
      { ...raw, inputs: [{ ...x, parameters: { shared_memory_region: { string_param: 'r' } } }] },
      3,
      'shared memory is not supported',
      'INVALID_ARGUMENT',
    ],
    [
      'a run that fails',
      {
        model_name: 'look-up',
        inputs: [{ name: 'index', datatype: 'INT64', shape: [1, 1], contents: { int64_contents: [9] } }],
      },
      3,
      'look-up',
      'INFERENCE_FAILED',
    ],
    [
      'a time-out',
      {
        model_name: 'slow-run',
        parameters: { timeout: { int64_param: 1 } },
        inputs: [{ name: 'x', datatype: 'FP32', shape: [1], contents: { fp32_contents: [1] } }],
      },
      4,
      '',
      'DEADLINE_EXCEEDED',
    ],
    [
      'a time-out in microseconds',
      {
        model_name: 'handler',
        parameters: { timeout: { int64_param: 100_000 }, method: { string_param: 'wait' } },
        inputs: [
          {
            name: 'request',
            datatype: 'BYTES',
            shape: [1],
            contents: { bytes_contents: [Buffer.from('{"ms":4000}')] },
          },
        ],
      },
      4,
      '',
      'DEADLINE_EXCEEDED',
    ],
  ])('refuses an inference with %s', async (_, request, code, details, own) => {
    expect(await failure(call('ModelInfer', request))).toMatchObject({
      code,
      details: expect.stringContaining(details),
      own,
    });
  });

  it('refuses a message that is too large, and one that is none', async () => {
    const large = { ...raw, raw_input_contents: [Buffer.alloc(1_000_001)] };
    expect(await failure(call('ModelInfer', large))).toMatchObject({ code: 8 });
    const { path } = methodOf('ModelInfer');
    for (const name of ['ModelInfer', 'ModelMetadata', 'RepositoryModelLoad']) {
      const broken = new Promise((resolve, reject) => {
        client.makeUnaryRequest(
          path.replace('ModelInfer', name),
          () => Buffer.from([0x0a, 0xff]),
          (bytes) => bytes,
          {},
          (error) => (error === null ? resolve(1) : reject(error)),
        );
      });
      expect(await failure(broken)).toMatchObject({
        code: 3,
        details: expect.stringContaining('the message cannot be read'),
      });
    }
  });

  it('answers in time when the deadline has passed, and gives it to the engine', async () => {
    const slow = {
      model_name: 'handler',
      inputs: [json({ ms: 60_000 })],
      parameters: { method: { string_param: 'wait' } },
    };
    const began = performance.now();
    expect(await failure(call('ModelInfer', slow, undefined, new Metadata(), 100))).toMatchObject({ code: 4 });
    expect(performance.now() - began).toBeLessThan(10_000);
    await ended('handler');
  });

  it('ends the request of a call that is cancelled', async () => {
    const slow = {
      model_name: 'handler',
      inputs: [json({ ms: 60_000 })],
      parameters: { method: { string_param: 'wait' } },
    };
    const { path, requestSerialize, responseDeserialize } = methodOf('ModelInfer');
    const settled = new Promise<number>((resolve) => {
      const made = client.makeUnaryRequest(path, requestSerialize, responseDeserialize, slow, (error) =>
        resolve(error?.code ?? 0),
      );
      untilOngoing('handler').then(() => made.cancel());
    });
    expect(await settled).toBe(1);
    await ended('handler');
  });

  it('gives a handler JSON, and answers with JSON', async () => {
    const request = {
      model_name: 'handler',
      inputs: [json({ value: [1] })],
      parameters: { method: { string_param: 'answer' } },
    };
    const answer = await call('ModelInfer', request);
    expect(answer).toMatchObject({
      outputs: [{ name: 'response', contents: { bytes_contents: [Buffer.from('[1]')] } }],
    });
  });

  it('answers the requests of a stream in their order, and goes on after an error', async () => {
    const answers = await stream([raw, { ...raw, model_name: 'none', id: 'bad' }, { ...typed, id: 'last' }]);
    expect(answers).toMatchObject([
      { error_message: '', infer_response: { id: 'mine', raw_output_contents: [floats(2, 4, 6, 8)] } },
      { error_message: expect.stringContaining('no model "none"'), infer_response: { id: 'bad' } },
      { error_message: '', infer_response: { id: 'last', outputs: [{ contents: { fp32_contents: [2, 4, 6, 8] } }] } },
    ]);
  });

  it('keeps the order of many requests, of which the first takes longest', async () => {
    const slow = {
      model_name: 'slow-run',
      id: '0',
      inputs: [{ name: 'x', datatype: 'FP32', shape: [1] }],
      raw_input_contents: [floats(1)],
    };
    const many = Array.from({ length: 300 }, (_, index) => ({ ...raw, id: String(index + 1) }));
    const answers = await stream([slow, ...many]);
    expect(answers.map(({ infer_response: { id } }) => id)).toStrictEqual(
      Array.from({ length: 301 }, (_, index) => String(index)),
    );
  });

  it('answers with the items of a handler, if the request asks for a stream', async () => {
    const request = {
      model_name: 'handler',
      id: 's',
      inputs: [json({ to: 3 })],
      parameters: { method: { string_param: 'count' }, stream: { bool_param: true } },
    };
    const answers = await stream([request, raw]);
    const items = answers
      .slice(0, 3)
      .map(({ infer_response: { outputs } }) => outputs[0].contents.bytes_contents[0].toString());
    expect(items).toStrictEqual(['{"index":0}', '{"index":1}', '{"index":2}']);
    expect(answers[3]).toMatchObject({ infer_response: { id: 'mine' } });
  });

  it('counts a stream when it is over, however it ends', async () => {
    const count = async (code: number) => {
      const text = await served.engine.metrics.metrics();
      const line = new RegExp(`protocol="grpc",method="ModelStreamInfer",code="${code}"} (\\d+)`);
      return Number(line.exec(text)?.[1] ?? 0);
    };
    const [ended, cancelled] = [await count(0), await count(1)];
    await stream([raw]);
    await expect.poll(() => count(0)).toBe(ended + 1);
    const endless = {
      ...{ model_name: 'handler', inputs: [json({ to: 1e12 })] },
      parameters: { method: { string_param: 'count' }, stream: { bool_param: true } },
    };
    const { path, requestSerialize, responseDeserialize } = methodOf('ModelStreamInfer');
    const open = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
    open.on('error', () => undefined);
    open.write(endless);
    await new Promise((resolve) => open.once('data', resolve));
    open.cancel();
    await expect.poll(() => count(1)).toBe(cancelled + 1);
    await expect.poll(() => ongoingOf('handler'), { timeout: 10_000 }).toBe(0);
    const text = await served.engine.metrics.metrics();
    expect(text).toMatch(/^infermux_server_ongoing_requests 0$/m);
  });

  it('tells those who watch its health that it ends, and does not wait for them', async () => {
    const own = await startServed();
    const watcher = new Client(own.grpc, credentials.createInsecure());
    const { path, requestSerialize, responseDeserialize } = methodOf('Watch', 'grpc.health.v1.Health');
    const statuses: string[] = [];
    const watch = watcher.makeServerStreamRequest(path, requestSerialize, responseDeserialize, { service: '' });
    const ended = new Promise((resolve) => watch.on('end', resolve).on('error', resolve));
    watch.on('data', ({ status }: { status: string }) => statuses.push(status));
    await expect.poll(() => statuses).toStrictEqual(['SERVING']);
    const began = performance.now();
    await own.close();
    await ended;
    expect(statuses).toStrictEqual(['SERVING', 'NOT_SERVING']);
    expect(performance.now() - began).toBeLessThan(10_000);
    watcher.close();
  });

  it('has the standard service for checks of health', async () => {
    const check = (service: string) => call('Check', { service }, 'grpc.health.v1.Health');
    expect(await check('')).toMatchObject({ status: 'SERVING' });
    expect(await check('inference.GRPCInferenceService')).toMatchObject({ status: 'SERVING' });
    expect(await failure(check('other'))).toMatchObject({ code: 5 });
  });

  it('lists its services for tools that ask', async () => {
    const { default: grpc } = await import('@grpc/reflection');
    expect(grpc).toBeDefined();
    const bytes = await reflection();
    expect(bytes.toString('latin1')).toContain('inference.GRPCInferenceService');
    expect(bytes.toString('latin1')).toContain('grpc.health.v1.Health');
  });
});

const json = (value: object) => ({
  name: 'request',
  datatype: 'BYTES',
  shape: [1],
  contents: { bytes_contents: [Buffer.from(JSON.stringify(value))] },
});

const ongoingOf = (deployment: string) => served.engine.deployments.get(deployment).ongoing;
const untilOngoing = (deployment: string) => expect.poll(() => ongoingOf(deployment)).toBe(1);
const ended = (deployment: string) => expect.poll(() => ongoingOf(deployment), { timeout: 10_000 }).toBe(0);

// biome-ignore lint/suspicious/noExplicitAny: the loader's messages have no types.
function stream(requests: readonly object[]): Promise<any[]> {
  const { path, requestSerialize, responseDeserialize } = methodOf('ModelStreamInfer');
  const open = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
  const answers: object[] = [];
  return new Promise((resolve, reject) => {
    open
      .on('data', (answer) => answers.push(answer))
      .on('end', () => resolve(answers))
      .on('error', reject);
    for (const request of requests) open.write(request);
    open.end();
  });
}

function reflection(): Promise<Buffer> {
  const path = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
  const open = client.makeBidiStreamRequest(
    path,
    (bytes: Buffer) => bytes,
    (bytes) => bytes,
  );
  return new Promise((resolve, reject) => {
    open.on('data', (bytes: Buffer) => {
      open.end();
      resolve(bytes);
    });
    open.on('error', reject);
    // list_services: "*"
    open.write(Buffer.from([0x3a, 0x01, 0x2a]));
  });
}

/** Numbers of the fields of a message whose fields all have a length. */
function* fieldsOf(bytes: Buffer): Iterable<number> {
  for (let at = 0; at < bytes.length; at += 2 + (bytes[at + 1] as number)) yield (bytes[at] as number) >> 3;
}
