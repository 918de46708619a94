import type { InfermuxError } from '../../../dist/common/errors.js';
import type { ModelReference, SessionWeights } from '../../../dist/contracts/model-reference.js';
import { createEviction } from '../../../dist/worker/sessions/eviction-policies.js';
import type { Lease } from '../../../dist/worker/sessions/leases.js';
import { ModelMultiplexer, type MultiplexerOptions } from '../../../dist/worker/sessions/model-multiplexer.js';

export const model = (id: string, bytes = 100): ModelReference => ({
  ...{ id, bytes },
  key: `${id}@1`,
  path: `/nowhere/${id}.onnx`,
});

/** Sessions without onnxruntime, which keep a record of what is done to them. */
export class FakeSessions {
  readonly log: string[] = [];
  readonly idleMs: number[] = [];
  readonly violations: string[] = [];
  readonly running = new Map<string, number>();
  readonly live = new Set<string>();
  mostLive = 0;
  now = 0;
  failing: InfermuxError | undefined;
  /** Whether memory allows one more session for a moment. */
  hasMemory = false;
  /** Why what can be checked before a load speaks against it. */
  refused: InfermuxError | undefined;
  resident = { models: 0, bytes: 0 };
  /** Milliseconds of a load that another one does not take. */
  preparationMs = 0;
  /** When set, loads wait for it. */
  gate: Promise<void> | undefined;
  /** Whether a model may be loaded anew before a session of it is released, because somebody holds that. */
  mayHaveTwo = false;
  /** Whether sessions with shared weights can be loaded. */
  isPrepared = false;
  readonly #instances = new Map<string, number>();

  multiplexer(options: Partial<MultiplexerOptions> = {}): ModelMultiplexer {
    return new ModelMultiplexer(
      { maxModels: 2, maxBytes: -1, eviction: createEviction('lru', () => 0), idleTimeoutMs: -1, ...options },
      {
        load: (reference) => this.#load(reference.key),
        mayLoadBeside: () => this.hasMemory,
        check: async ({ key }) => {
          this.log.push(`checked ${key}`);
          if (this.refused !== undefined) throw this.refused;
        },
        loadShared: async ({ key }) => (this.isPrepared ? this.#load(key, 'shared') : undefined),
      },
      {
        loading: ({ key }) => this.log.push(`loading ${key}`),
        loaded: ({ key }) => this.log.push(`loaded ${key}`),
        changedOver: ({ key }) => this.log.push(`shares ${key}`),
        loadFailed: (key, { code }) => this.log.push(`failed ${key} ${code}`),
        unloaded: (key, reason, _, idleMs) => {
          this.log.push(`unloaded ${key} ${reason}`);
          this.idleMs.push(idleMs);
        },
        releaseFailed: (key) => this.log.push(`release failed ${key}`),
        resident: (models, bytes) => {
          this.resident = { models, bytes };
        },
      },
      () => this.now,
    );
  }

  async #load(key: string, weights: SessionWeights = 'private') {
    await this.gate;
    if (this.failing !== undefined) throw this.failing;
    const others = this.#instances.get(key) ?? 0;
    if (others > 0 && !this.mayHaveTwo) this.violations.push(`${key} loaded twice`);
    this.#instances.set(key, others + 1);
    this.live.add(key);
    this.mostLive = Math.max(this.mostLive, this.live.size);
    let isReleased = false;
    return {
      weights,
      preparationMs: this.preparationMs,
      metadata: { inputs: [], outputs: [], omittedOutputs: [] },
      run: async () => ({}),
      release: async () => {
        if ((this.running.get(key) ?? 0) > 0) this.violations.push(`${key} released while it ran`);
        if (isReleased) this.violations.push(`${key} released twice`);
        isReleased = true;
        const left = (this.#instances.get(key) ?? 0) - 1;
        this.#instances.set(key, left);
        if (left === 0) this.live.delete(key);
      },
    };
  }

  async use(multiplexer: ModelMultiplexer, id: string): Promise<Lease> {
    const lease = await multiplexer.lease(model(id));
    const key = `${id}@1`;
    if (!this.live.has(key)) this.violations.push(`${key} leased after its release`);
    this.running.set(key, (this.running.get(key) ?? 0) + 1);
    return {
      ...lease,
      giveBack: () => {
        this.running.set(key, (this.running.get(key) ?? 0) - 1);
        lease.giveBack();
      },
    };
  }
}
