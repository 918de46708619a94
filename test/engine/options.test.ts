import { availableParallelism } from 'node:os';
import { describe, expect, it } from 'vitest';
import type { InfermuxError } from '../../dist/common/errors.js';
import type { ResolvedDeploymentOptions } from '../../dist/deployments/config/deployment-options.js';
import type { EngineOptions } from '../../dist/engine/engine-options.js';
import { resolveOptions } from '../../dist/engine/options.js';
import { readRunOptions, timeLeftMs } from '../../dist/engine/requests/run-options.js';

const refusal = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    return `${(error as InfermuxError).code}: ${(error as Error).message}`;
  }
  return 'accepted';
};

describe('engine options', () => {
  it('have defaults, and are frozen', () => {
    const options = resolveOptions();
    expect(options.models).toEqual({});
    expect(options.metrics).toMatchObject({ modelLabels: true, maxModels: 200 });
    expect(options.metrics.buckets.at(-1)).toBe(600);
    expect(options.deployments.default).toMatchObject({
      replicas: availableParallelism(),
      maxModelsPerReplica: 3,
      maxModelBytesPerReplica: -1,
      modelIdleTimeoutMs: -1,
      maxOngoingRequests: undefined,
      maxQueuedRequests: 4096,
      defaultTimeoutMs: -1,
      gracefulShutdownTimeoutMs: 20_000,
      session: {},
      devices: undefined,
      handler: undefined,
      labels: [{}],
      healthCheck: { periodMs: 10_000, timeoutMs: 30_000, failures: 3 },
      rollingUpdate: { fraction: 0.2 },
      express: 'auto',
      autoscaling: undefined,
    });
    expect(Object.isFrozen(options)).toBe(true);
    expect(Object.isFrozen(options.deployments.default)).toBe(true);
  });

  it('count a key that is undefined as absent, also in session', () => {
    const { default: options } = resolveOptions({
      replicas: undefined,
      session: { intraOpNumThreads: undefined },
    } as never).deployments;
    expect(options.replicas).toBe(availableParallelism());
    expect(options.session).toEqual({});
  });

  it('copy the session options, since replicas start again later', () => {
    const providers = ['cpu'];
    const { session } = resolveOptions({ session: { executionProviders: providers } }).deployments.default;
    providers.push('cuda');
    expect(session.executionProviders).toEqual(['cpu']);
  });

  it('have absolute paths, whether they are given as paths or as file: URLs', () => {
    const url = new URL('file:///my%20models');
    for (const given of [url, url.href, '/my models']) {
      const resolved = resolveOptions({
        models: given,
        checkpoint: { file: given },
        weightStore: { directory: given },
        session: { optimizedModelFilePath: given, profileFilePrefix: given },
        deployments: { a: { handler: given } },
      });
      expect([resolved.models, resolved.checkpoint?.file, resolved.weightStore.directory]).toEqual(
        Array(3).fill('/my models'),
      );
      const { default: own, a } = resolved.deployments as Record<string, ResolvedDeploymentOptions>;
      expect(own?.session).toEqual({ optimizedModelFilePath: '/my models', profileFilePrefix: '/my models' });
      expect(a?.handler).toBe(url.href);
    }
    const models = resolveOptions({ models: { a: url, b: { path: url.href, version: 2 } } }).models;
    expect(models).toMatchObject({ a: { path: '/my models' }, b: { path: '/my models', version: 2 } });
  });

  const cyclic: Record<string, unknown> = {};
  cyclic['self'] = cyclic;

  it.each<[unknown, string]>([
    [null, 'options must be a plain object, got null'],
    [new Map(), 'options must be a plain object, got Map(0) {}'],
    [{ replica: 2 }, 'options: unknown key "replica"; expected one of models, finder, modelCache'],
    [{ ['__proto__x']: 2 }, 'unknown key "__proto__x"'],
    [{ constructor: 2 }, 'unknown key "constructor"'],
    [{ batching: true }, "options.batching must be 'auto', false or"],
    [{ batching: null }, "options.batching must be 'auto', false or"],
    [{ batching: { maxSize: 0 } }, 'options.batching.maxSize must be an integer of at least 1, got 0'],
    [{ models: { a: { path: 'a.onnx', batching: 7 } } }, 'options.models["a"].batching must be'],
    [{ replicas: -1 }, 'options.replicas must be an integer from 0 to 1024, got -1'],
    [{ replicas: '2' }, 'options.replicas must be an integer from 0 to 1024, got "2"'],
    [{ deployments: { default: {} } }, 'options.deployments must not name "default"'],
    [{ deployments: { 'a/b': {} } }, "a deployment's name must be up to 64 letters, digits"],
    [{ deployments: { gpu: { replica: 1 } } }, 'options.deployments["gpu"]: unknown key "replica"'],
    [{ deployments: { gpu: null } }, 'options.deployments["gpu"] must be a plain object, got null'],
    [{ devices: [0] }, "options.devices are for execution providers other than 'cpu'"],
    [{ devices: [] }, 'options.devices must be a non-empty list of device ids'],
    [{ userConfig: {} }, 'options.userConfig is for a handler, and options.handler names none'],
    [{ handler: 'a.mjs', userConfig: cyclic }, 'options.userConfig must be what JSON can carry'],
    [
      { handler: new URL('http://localhost/a.mjs') },
      'options.handler must be a path or a file: URL (The URL must be of scheme',
    ],
    [{ handler: '' }, 'options.handler must be a path or a file: URL, got ""'],
    [
      { checkpoint: { file: new URL('https://example.org/a') } },
      'options.checkpoint.file must be a path or a file: URL (The URL must be of scheme',
    ],
    [
      { weightStore: { directory: 'https://example.org/a' } },
      'options.weightStore.directory must be a path or a file:',
    ],
    [{ models: new URL('file:///a%2Fb') }, 'name the path instead), got file:///a%2Fb'],
    [{ models: { a: new URL('file://host/b') } }, 'name the path instead), got file://host/b'],
    [
      { models: { a: { path: new URL('https://a.org/b') } } },
      'options.models["a"].path must be a path or a file: URL (',
    ],
    [
      { session: { optimizedModelFilePath: 7 } },
      'options.session.optimizedModelFilePath must be a path or a file: URL',
    ],
    [{ handler: 'a.mjs', userConfig: { at: new URL('file:///a') } }, 'options.userConfig must be what JSON can carry'],
    [
      { deployments: { a: { handler: 'a.mjs', userConfig: { at: new URL('file:///a') } } } },
      'options.deployments["a"].userConfig must be what JSON can carry, and comes out of it as {"at":"file:///a"}',
    ],
    [{ deployments: { a: { handler: 7 } } }, 'options.deployments["a"].handler must be a path or a file: URL, got 7'],
    [{ labels: { a: 1 } }, 'options.labels must be an object of strings, or a non-empty list of such objects'],
    [{ healthCheck: { failures: 0 } }, 'options.healthCheck.failures must be an integer of at least 1'],
    [{ rollingUpdate: { fraction: 2 } }, 'options.rollingUpdate.fraction must be a number from 0 to 1, got 2'],
    [{ autoscaling: {} }, 'options.autoscaling.maxReplicas must be named'],
    [{ autoscaling: { minReplicas: 3, maxReplicas: 2 } }, 'minReplicas 3 is above maxReplicas 2'],
    [
      { replicas: 5, autoscaling: { maxReplicas: 2 } },
      'options.replicas is where autoscaling begins, and must be from 1 to 2',
    ],
    [{ checkpoint: {} }, 'options.checkpoint.file must be named'],
    [{ checkpoint: 'a.json' }, 'options.checkpoint must be a plain object, got "a.json"'],
    [{ maxModelsPerReplica: 0 }, 'options.maxModelsPerReplica must be an integer of at least 1, or -1, got 0'],
    [{ maxModelsPerReplica: Number.NaN }, 'got NaN'],
    [{ maxQueuedRequests: -2 }, 'options.maxQueuedRequests must be an integer of at least 0, or -1, got -2'],
    [
      { defaultTimeoutMs: 2 ** 31 },
      'options.defaultTimeoutMs must be milliseconds from 0 to 2147483647, or -1, got 2147483648',
    ],
    [{ models: 7 }, 'options.models must be a directory, an object of models by id or a finder, got 7'],
    [{ models: '' }, 'options.models must be a path or a file: URL, got ""'],
    [
      { models: { a: 7 } },
      'options.models["a"] must be a path or a file: URL, a Uint8Array or an ArrayBuffer, or { path or bytes, … }, got 7',
    ],
    [{ models: { a: { version: 1 } } }, 'options.models["a"] must have either a path or bytes'],
    [{ models: { a: { path: 'a', bytes: new Uint8Array() } } }, 'must have either a path or bytes'],
    [{ models: { a: { bytes: 'a' } } }, 'options.models["a"].bytes must be a Uint8Array'],
    [
      { models: { a: { path: 'a', session: { extra: 1 } } } },
      'options.models["a"].session.extra must be a plain object',
    ],
    [{ weights: 'own' }, "options.weights must be 'auto', 'private' or 'shared', got \"own\""],
    [{ express: true }, 'options.express must be "auto" or false, got true'],
    [{ deployments: { a: { express: 'on' } } }, 'options.deployments["a"].express must be "auto" or false, got "on"'],
    [{ weightStore: { maxBytes: 0 } }, 'options.weightStore.maxBytes must be an integer of at least 1'],
    [{ weightStore: { path: 'a' } }, 'options.weightStore: unknown key "path"'],
    [{ repository: { lazy: 1 } }, 'options.repository.lazy must be true or false'],
    [
      { repository: { versions: [] } },
      "options.repository.versions must be 'latest', 'all' or a list of positive integers",
    ],
    [{ repository: { pollMs: -1 }, models: 'a' }, 'options.repository.pollMs must be milliseconds'],
    [{ repository: { pollMs: 5 } }, 'options.models is not a directory: name one, or set pollMs to 0'],
    [
      { models: { a: { path: 'a.onnx', version: 0 } } },
      'options.models["a"].version must be an integer of at least 1, got 0',
    ],
    [{ logger: {} }, 'options.logger must be a logger (an object with debug, info, warn, error), got {}'],
    [{ registry: {} }, 'options.registry must be a prom-client Registry'],
    [{ metrics: { modelLabels: 1 } }, 'options.metrics.modelLabels must be true or false, got 1'],
    [{ metrics: { maxModels: 0 } }, 'options.metrics.maxModels must be an integer of at least 1, got 0'],
    [
      { metrics: { models: 5 } },
      'options.metrics: unknown key "models"; expected one of modelLabels, buckets, maxModels, triton',
    ],
    [
      { metrics: { buckets: [] } },
      'options.metrics.buckets must be a list of 1 to 64 numbers above 0, in ascending order',
    ],
    [{ metrics: { buckets: [1, 1] } }, 'options.metrics.buckets must be'],
    [{ metrics: { buckets: [0, 1] } }, 'options.metrics.buckets must be'],
    [{ metrics: { buckets: ['1'] } }, 'options.metrics.buckets must be'],
    [{ session: { executionProviders: 'cpu' } }, 'options.session.executionProviders must be a non-empty array'],
    [{ session: { executionProviders: new Array(1) } }, 'options.session.executionProviders must be a non-empty array'],
    [
      { session: { intraOpNumThreads: 1.5 } },
      'options.session.intraOpNumThreads must be an integer from 0 to 1024, or "auto", got 1.5',
    ],
    [
      { session: { graphOptimizationLevel: 'most' } },
      'must be one of disabled, basic, extended, layout, all, got "most"',
    ],
    [{ session: { onEvent: () => undefined } }, 'options.session must be plain data'],
    [{ session: { extra: cyclic } }, 'options.session must be plain data'],
  ])('%j are refused', (options, message) => {
    expect(refusal(() => resolveOptions(options as EngineOptions))).toContain('INVALID_ARGUMENT: ');
    expect(refusal(() => resolveOptions(options as EngineOptions))).toContain(message);
  });
});

describe('run options', () => {
  it.each<[unknown, string]>([
    [{}, 'accepted'],
    [{ signal: new AbortController().signal, timeoutMs: 0, priority: -3, outputs: ['y'], transfer: true }, 'accepted'],
    [null, 'runOptions must be a plain object, got null'],
    [5, 'runOptions must be a plain object, got 5'],
    [Object.create({ timeoutMs: 'abc' }), 'runOptions must be a plain object'],
    [{ signal: { aborted: false } }, 'runOptions.signal must be an AbortSignal, got { aborted: false }'],
    [{ timeoutMs: -2 }, 'runOptions.timeoutMs must be milliseconds from 0 to 2147483647, or -1, got -2'],
    [{ deadline: new Date(0) }, 'runOptions.deadline must be milliseconds as of Date.now(), got 1970'],
    [{ outputs: [] }, 'runOptions.outputs must be a non-empty array of output names'],
    [{ outputs: new Array(1) }, 'runOptions.outputs must be a non-empty array of output names'],
    [{ transfer: 'yes' }, 'runOptions.transfer must be true or false, got "yes"'],
  ])('%j', (options, expected) => {
    expect(refusal(() => readRunOptions(options as never))).toContain(expected);
  });

  it('the earlier of timeoutMs and deadline counts, and both before the default', () => {
    expect(timeLeftMs({}, -1, () => 1_000)).toBeUndefined();
    expect(timeLeftMs({}, 50, () => 1_000)).toBe(50);
    expect(timeLeftMs({ timeoutMs: 80 }, 50, () => 1_000)).toBe(80);
    expect(timeLeftMs({ timeoutMs: 80, deadline: 1_020 }, 50, () => 1_000)).toBe(20);
    expect(timeLeftMs({ deadline: 900 }, -1, () => 1_000)).toBe(-100);
    expect(timeLeftMs({ timeoutMs: -1 }, 50, () => 1_000)).toBeUndefined();
    expect(timeLeftMs({ timeoutMs: -1, deadline: 1_020 }, 50, () => 1_000)).toBe(20);
  });
});
