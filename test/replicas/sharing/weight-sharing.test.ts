import { beforeEach, describe, expect, it } from 'vitest';
import type { ModelReference, SessionWeights, WeightPlacement } from '../../../dist/contracts/model-reference.js';
import { HashMemory, hashMemory } from '../../../dist/protocol/hash-memory.js';
import type { ReplicaState } from '../../../dist/replicas/replica-state.js';
import type { CompileAnswer } from '../../../dist/replicas/sharing/compile-process.js';
import { type SharingReplica, WeightSharing } from '../../../dist/replicas/sharing/weight-sharing.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';
import { flush } from '../../support/flush.js';

const MIB = 2 ** 20;
const SETTLE_MS = 2_000;
const REST_MS = 600_000;
const PATIENCE_MS = 10_000;
const HASH: readonly [Uint8Array, Uint8Array] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
const READY: CompileAnswer = { kind: 'ready', compileMs: 1_000, hashes: [HASH] };

class FakeReplica implements SharingReplica {
  state: ReplicaState = 'running';
  readonly models = new Map<string, SessionWeights>();
  readonly session: Record<string, unknown> = {};
  placement: WeightPlacement = 'auto';
  ongoing = 0;
  isLoading = false;
  /** Whether it finds what was prepared. */
  canShare = true;
  /** When set, it never answers. */
  isStuck = false;
  #lose: (error: Error) => void = () => undefined;

  readonly id: string;

  constructor(id: string) {
    this.id = id;
  }

  readonly weights = {
    settings: Object.defineProperties({} as { weights: WeightPlacement; session: Record<string, unknown> }, {
      weights: { get: () => this.placement },
      session: { get: () => this.session },
    }),
    of: (key: string) => this.models.get(key),
    share: async (key: string) => {
      story.push(`${this.id} shares ${key}`);
      if (this.isStuck)
        await new Promise<void>((_, reject) => {
          this.#lose = reject;
        });
      if (this.canShare && this.models.has(key)) this.models.set(key, 'shared');
    },
  };

  abandon(cause: Error): void {
    story.push(`${this.id} is abandoned`);
    this.state = 'failed';
    this.#lose(cause);
  }
}

let clock: FakeClock;
let story: string[];
let told: string[];
let replicas: FakeReplica[];
let answers: ((answer: CompileAnswer) => void)[];
let memory: SharedArrayBuffer;
let available: number;
let sharing: WeightSharing;

const model = (own: Partial<ModelReference> = {}): ModelReference => ({
  ...{ id: 'm', key: 'm@1', path: '/m.onnx', bytes: 100 * MIB, format: 'onnx' },
  ...own,
});

function load(index: number, loaded = model(), weights: SessionWeights = 'private', loadMs = 500): void {
  const replica = replicas[index] as FakeReplica;
  replica.models.set(loaded.key, weights);
  sharing.loaded(replica, loaded, { weights, loadMs });
}

async function pass(milliseconds: number): Promise<void> {
  // Step by step, because what happens at a time may set the next timer.
  for (let left = milliseconds; left > 0; left -= 10) {
    clock.advance(Math.min(10, left));
    await flush();
  }
}

/** Two replicas load the model, and it settles. */
async function begin(loaded = model()): Promise<void> {
  load(0, loaded);
  load(1, loaded);
  await pass(SETTLE_MS);
}

async function answer(given: CompileAnswer): Promise<void> {
  answers.shift()?.(given);
  await flush();
}

beforeEach(() => {
  clock = new FakeClock();
  story = [];
  told = [];
  answers = [];
  replicas = ['r0', 'r1', 'r2'].map((id) => new FakeReplica(id));
  memory = hashMemory(8);
  available = 1_000 * MIB;
  sharing = new WeightSharing({
    ...{ clock, fileHashes: memory, weightStore: { directory: '/store', maxBytes: 1 } },
    replicas: () => replicas,
    availableMemory: () => available,
    log: (level, { reason = '' }, message) => told.push(`${level}: ${message} ${reason}`.trim()),
    compile: ({ id }) => {
      story.push(`compile ${id}`);
      return {
        answer: new Promise<CompileAnswer>((resolve) => answers.push(resolve)),
        close: async () => {
          story.push('close');
          await answer({ kind: 'died', reason: 'closed' });
        },
      };
    },
  });
});

describe('a large model with several sessions', () => {
  it('is compiled when it has settled, and its sessions change over one after the other', async () => {
    load(0);
    load(1);
    await pass(SETTLE_MS - 10);
    expect(story).toEqual([]);
    await pass(10);
    expect(story).toEqual(['compile m']);
    await answer(READY);
    expect(story).toEqual(['compile m', 'r0 shares m@1', 'r1 shares m@1']);
    // The replicas need not read the files that the process has read.
    expect(new HashMemory(memory).get(HASH[0])).toEqual(HASH[1]);
    expect(told).toEqual([
      'info: sessions share weights through the weight store',
      'info: the weight store has the model',
    ]);
  });

  it('counts a wide session as another one', async () => {
    load(0);
    await pass(10 * SETTLE_MS);
    expect(story).toEqual([]);
    const wide = 'm@1 (wide)';
    (replicas[0] as FakeReplica).models.set(wide, 'private');
    sharing.loaded(replicas[0] as FakeReplica, model(), { weights: 'private', loadMs: 500 });
    await pass(SETTLE_MS);
    await answer(READY);
    expect(story).toEqual(['compile m', 'r0 shares m@1', `r0 shares ${wide}`]);
  });

  it('is not compiled when one of its sessions is gone by then, but when another comes', async () => {
    load(0);
    load(1);
    replicas[1]?.models.clear();
    await pass(SETTLE_MS);
    expect(story).toEqual([]);
    load(2);
    await pass(SETTLE_MS);
    expect(story).toEqual(['compile m']);
  });

  it('changes over a session that came with weights of its own while others did', async () => {
    await begin();
    await answer(READY);
    load(2);
    await pass(SETTLE_MS);
    expect(story).toEqual(['compile m', 'r0 shares m@1', 'r1 shares m@1', 'r2 shares m@1']);
  });

  it('waits until a replica is idle, and not for ever', async () => {
    const [first, second] = replicas as [FakeReplica, FakeReplica];
    load(0);
    load(1);
    first.ongoing = 1;
    await pass(SETTLE_MS);
    await answer(READY);
    await pass(PATIENCE_MS / 2);
    expect(story).toEqual(['compile m']);
    first.ongoing = 0;
    second.isLoading = true;
    await pass(20);
    expect(story).toEqual(['compile m', 'r0 shares m@1']);
    await pass(PATIENCE_MS);
    expect(story).toEqual(['compile m', 'r0 shares m@1', 'r1 shares m@1']);
  });
});

it.each<[string, Partial<ModelReference>, Partial<FakeReplica>]>([
  ['is small', { bytes: 15 * MIB }, {}],
  ['is to keep its own weights', { weights: 'private' }, {}],
  ['shares them from the start', { weights: 'shared' }, {}],
  ['is in a deployment that decides', {}, { placement: 'private' }],
  ['is in the ORT format', { format: 'ort' }, {}],
  ['runs elsewhere than on the CPU', { session: { executionProviders: ['cuda'] } }, {}],
])('a model that %s is left alone', async (_, own, ofReplica) => {
  for (const replica of replicas) Object.assign(replica, ofReplica);
  for (const index of [0, 1, 2]) load(index, model(own));
  await pass(10 * SETTLE_MS);
  expect([story, told]).toEqual([[], []]);
});

it('sessions with other settings are another matter', async () => {
  Object.assign((replicas[1] as FakeReplica).session, { graphOptimizationLevel: 'basic' });
  await begin();
  expect(story).toEqual([]);
  load(2);
  await pass(SETTLE_MS);
  await answer(READY);
  expect(story).toEqual(['compile m', 'r0 shares m@1', 'r2 shares m@1']);
});

it('models are compiled one after the other', async () => {
  const other = model({ id: 'n', key: 'n@1' });
  for (const index of [0, 1]) {
    load(index);
    load(index, other);
  }
  await pass(SETTLE_MS);
  expect(story).toEqual(['compile m']);
  await answer({ kind: 'declined', reason: 'only 3 bytes of it could be shared' });
  expect(story).toEqual(['compile m', 'compile n']);
});

it('sessions that keep their weights by their own settings do not count', async () => {
  (replicas[1] as FakeReplica).placement = 'private';
  await begin();
  expect(story).toEqual([]);
  load(2);
  await pass(SETTLE_MS);
  await answer(READY);
  expect(story).toEqual(['compile m', 'r0 shares m@1', 'r2 shares m@1']);
});

it('settings that are no JSON are as good as others', async () => {
  for (const replica of replicas) Object.assign(replica.session, { of: 1n, bytes: new Uint8Array(2) });
  await begin();
  expect(story).toEqual(['compile m']);
});

it('nothing is compiled where there is no memory for it, until there is', async () => {
  available = 399 * MIB;
  await begin();
  expect(story).toEqual([]);
  expect(told.at(-1)).toMatch(
    /^info: the weights of the model are not shared yet a compilation takes some 419430400 bytes/,
  );
  available = 400 * MIB;
  await pass(REST_MS);
  expect(story).toEqual(['compile m']);
});

it('a model that leaves the store again is not compiled at each load', async () => {
  await begin();
  await answer(READY);
  for (const replica of replicas) replica.canShare = false;
  for (let time = 0; time < 5; time += 1) {
    load(0);
    await pass(SETTLE_MS);
  }
  expect(story.filter((line) => line.startsWith('compile'))).toHaveLength(1);
  await pass(REST_MS);
  expect(story.filter((line) => line.startsWith('compile'))).toHaveLength(2);
});

it('a session that never changes over costs one replica, and the others keep their weights', async () => {
  for (const index of [0, 1, 2]) load(index);
  (replicas[0] as FakeReplica).isStuck = true;
  await pass(SETTLE_MS);
  await answer(READY);
  await pass(120_000);
  await pass(2 * REST_MS);
  load(0);
  await pass(SETTLE_MS);
  expect(story).toEqual(['compile m', 'r0 shares m@1', 'r0 is abandoned']);
  expect(told.at(-1)).toMatch(/^warn: a replica failed when a session was to share its weights/);
});

it('a session may take as long to change over as its loads let expect', async () => {
  for (const index of [0, 1]) load(index, model(), 'private', 60_000);
  (replicas[0] as FakeReplica).isStuck = true;
  await pass(SETTLE_MS);
  await answer(READY);
  await pass(599_000);
  expect(story).toEqual(['compile m', 'r0 shares m@1']);
  await pass(2_000);
  expect(story.at(-1)).toBe('r0 is abandoned');
});

describe('what cannot be compiled', () => {
  it.each<[string, CompileAnswer, string, number]>([
    ['is declined', { kind: 'declined', reason: 'x' }, 'info: the weights of the model are not shared x', 144],
    ['is postponed', { kind: 'postponed', reason: 'x' }, 'info: the weights of the model are not shared yet x', 1],
    [
      'ends its process',
      { kind: 'died', reason: 'x' },
      'warn: the model could not be compiled to share its weights x',
      1,
    ],
    [
      'has no store',
      { kind: 'failed', reason: 'x' },
      'warn: weights are not shared: the weight store cannot be used x',
      1,
    ],
  ])(
    '%s: the model keeps its weights, and is tried again by itself, but not at once',
    async (_, given, message, rests) => {
      await begin();
      await answer(given);
      expect(told.at(-1)).toBe(message);
      await begin();
      clock.advance(rests * REST_MS - 2 * SETTLE_MS);
      await flush();
      expect(story).toEqual(['compile m']);
      await pass(2 * SETTLE_MS);
      expect(story).toEqual(['compile m', 'compile m']);
    },
  );

  it('for lack of a store gets one warning, whatever the number of models', async () => {
    await begin();
    const other = model({ id: 'n', key: 'n@1' });
    for (const index of [0, 1]) load(index, other);
    await answer({ kind: 'failed', reason: 'EACCES' });
    await pass(SETTLE_MS);
    expect(story).toEqual(['compile m']);
    await pass(REST_MS);
    await answer({ kind: 'failed', reason: 'EACCES' });
    await answer({ kind: 'failed', reason: 'EACCES' });
    expect(story).toEqual(['compile m', 'compile m']);
    expect(told.filter((line) => line.startsWith('warn'))).toHaveLength(1);
  });

  it('or not be found by a replica afterwards, is not tried without end', async () => {
    for (const replica of replicas) replica.canShare = false;
    await begin();
    await answer(READY);
    await pass(100);
    expect(story).toHaveLength(7);
    await pass(REST_MS / 2);
    expect(story).toHaveLength(7);
  });
});

describe('an end', () => {
  it('of the engine ends a compilation, and nothing begins any more', async () => {
    await begin();
    await sharing.close();
    expect(story).toEqual(['compile m', 'close']);
    load(0, model({ id: 'n', key: 'n@1' }));
    load(1, model({ id: 'n', key: 'n@1' }));
    await pass(10 * SETTLE_MS);
    expect([story, told]).toEqual([['compile m', 'close'], ['info: sessions share weights through the weight store']]);
  });

  it('of the model ends what is meant for it', async () => {
    load(0);
    load(1);
    sharing.forget('m@1');
    await pass(SETTLE_MS);
    expect(story).toEqual([]);
  });
});
