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
  expectTypeOf<InferenceEngine['run']>().returns.resolves.toEqualTypeOf<Outputs>();
});
