// What these tests say is checked by the compiler: `npm run types`.
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { expectTypeOf, it } from 'vitest';
import type { EngineOptions, Feeds, InferenceEngine, Outputs, RunOptions, Tensor } from '../dist/index.js';

it('an ort.Tensor fits as a feed, and its session options as session', () => {
  expectTypeOf<Record<string, OrtTensor>>().toExtend<Feeds>();
  expectTypeOf<InferenceSession.SessionOptions>().toExtend<NonNullable<EngineOptions['session']>>();
});

it('the type of a tensor tells what its data is', () => {
  expectTypeOf<Extract<Tensor, { type: 'float32' }>['data']>().toEqualTypeOf<Float32Array>();
  expectTypeOf<Extract<Tensor, { type: 'string' }>['data']>().toEqualTypeOf<readonly string[]>();
  expectTypeOf<Extract<Tensor, { type: 'int64' }>['data']>().toEqualTypeOf<BigInt64Array>();
});

it('options may be undefined', () => {
  expectTypeOf<{ signal: AbortSignal | undefined; timeoutMs: undefined }>().toExtend<RunOptions>();
  expectTypeOf<{ replicas: number | undefined }>().toExtend<EngineOptions>();
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
