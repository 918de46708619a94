// What these tests say is checked by the compiler: `npm run types`.
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { expectTypeOf, it } from 'vitest';
import { connect, type InferenceClient } from '../dist/client/index.js';
import {
  type EngineOptions,
  type ErrorCode,
  type Feeds,
  type InferenceEngine,
  InfermuxError,
  type ModelFiles,
  type Outputs,
  type RunOptions,
  readModelSource,
  type Tensor,
} from '../dist/index.js';

it('an ort.Tensor fits as a feed, and its session options as session', () => {
  expectTypeOf<Record<string, OrtTensor>>().toExtend<Feeds>();
  expectTypeOf<InferenceSession.SessionOptions>().toExtend<NonNullable<EngineOptions['session']>>();
});

it('the type of a tensor tells what its data is', () => {
  expectTypeOf<Extract<Tensor, { type: 'float32' }>['data']>().toEqualTypeOf<Float32Array>();
  expectTypeOf<Extract<Tensor, { type: 'string' }>['data']>().toEqualTypeOf<readonly string[]>();
  expectTypeOf<Extract<Tensor, { type: 'int64' }>['data']>().toEqualTypeOf<BigInt64Array>();
});

it('an allocated tensor has the array of its type, and fits as a feed', () => {
  const allocate = (engine: InferenceEngine) => engine.allocate('int64', [2]);
  expectTypeOf<ReturnType<typeof allocate>['data']>().toEqualTypeOf<BigInt64Array>();
  expectTypeOf<{ x: ReturnType<typeof allocate> }>().toExtend<Feeds>();
});

it('options may be undefined', () => {
  expectTypeOf<{ signal: AbortSignal | undefined; timeoutMs: undefined }>().toExtend<RunOptions>();
  expectTypeOf<{ replicas: number | undefined }>().toExtend<EngineOptions>();
});

it('a path is a string or a URL, and bytes are a Uint8Array or a buffer', () => {
  expectTypeOf<{
    models: URL;
    checkpoint: { file: URL };
    weightStore: { directory: URL };
    handler: URL;
  }>().toExtend<EngineOptions>();
  expectTypeOf<{ a: URL; b: { path: URL }; c: ArrayBuffer; d: { bytes: Buffer } }>().toExtend<
    NonNullable<EngineOptions['models']>
  >();
  expectTypeOf(readModelSource).toBeCallableWith(new URL('file:///a.onnx'));
  expectTypeOf<{ 'model.onnx': ArrayBuffer; 'model.json': string }>().toExtend<ModelFiles>();
});

it('instanceof tells the type of an error, and of a subclass', () => {
  class Narrower extends InfermuxError {
    readonly more: number = 1;
  }
  const typeOf = (error: unknown) => {
    if (error instanceof Narrower) return error.more;
    return error instanceof InfermuxError ? error.code : undefined;
  };
  expectTypeOf(typeOf).returns.toEqualTypeOf<number | ErrorCode | undefined>();
});

it('an engine is started by createEngine alone', () => {
  expectTypeOf<InferenceEngine>().not.toHaveProperty('start');
});

it('a model takes feeds and gives outputs, a handler whatever its caller says', () => {
  const calls = (engine: InferenceEngine) => ({
    model: engine.run('model', {}),
    handler: engine.run<string[]>('handler', { any: 'thing' }),
    result: engine.infer<number>({ target: 'handler', feeds: 7 }),
    // @ts-expect-error: no feeds
    wrong: engine.run('model', { any: 'thing' }),
  });
  expectTypeOf(calls).returns.toHaveProperty('model').resolves.toEqualTypeOf<Outputs>();
  expectTypeOf(calls).returns.toHaveProperty('handler').resolves.toEqualTypeOf<string[]>();
  expectTypeOf(calls).returns.toHaveProperty('result').resolves.toHaveProperty('outputs').toEqualTypeOf<number>();
  expectTypeOf<Awaited<ReturnType<InferenceEngine['run']>>>().toEqualTypeOf<Outputs>();
});

it('a client knows the inputs and outputs of models whose types it is given', () => {
  interface Models {
    digits: {
      inputs: { image: { type?: 'float32'; dims: readonly number[]; data: Float32Array } };
      outputs: { probabilities: Extract<Tensor, { type: 'float32' }> };
    };
  }
  type Client = InferenceClient<Models>;
  expectTypeOf(connect<Models>).returns.resolves.toEqualTypeOf<Client>();
  const run = (client: Client, image: Float32Array) => client.run('digits', { image: { dims: [1, 64], data: image } });
  expectTypeOf<Awaited<ReturnType<typeof run>>['probabilities']['data']>().toEqualTypeOf<Float32Array>();
  const wrong = async (client: Client) => {
    // @ts-expect-error: there is no such model.
    await client.run('digit', { image: { dims: [1, 64], data: new Float32Array(64) } });
    // @ts-expect-error: there is no such input.
    await client.run('digits', { picture: { dims: [1, 64], data: new Float32Array(64) } });
    // @ts-expect-error: it has other elements.
    await client.run('digits', { image: { dims: [1, 64], data: new Float64Array(64) } });
    // @ts-expect-error: there is no such output.
    return (await run(client, new Float32Array(64))).classes;
  };
  expectTypeOf(wrong).toBeFunction();
});
