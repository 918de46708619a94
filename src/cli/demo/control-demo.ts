import { createHistogram } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { createEngine, type InferenceEngine, InfermuxError } from '../../index.js';
import { type Percentiles, percentiles, round } from './demo-figures.js';
import { MODELS, PIXELS, readDigits } from './digits.js';

const REPLICAS = 2;
const MORE_REPLICAS = 4;
const CALLERS = 32;
const ENDPOINT = 'digits';
const OLD = 'digits-mlp';
const NEW = 'digits-cnn';
/** Time between two frames. */
const FRAME_MS = 100;
/** Answers after which the shares of the models are near to their weights. */
const LEAST_ANSWERS = 500;

export interface ControlReport {
  readonly callers: number;
  readonly steps: readonly StepReport[];
  readonly requests: number;
  /** Requests that failed, by error code. */
  readonly errors: Readonly<Record<string, number>>;
}

export interface StepReport {
  readonly step: string;
  /** Time until the step's goal was reached, or its traffic was in force. */
  readonly takenMs: number;
  /** Requests sent while the step was made and for a while after. */
  readonly requests: number;
  readonly errors: number;
  readonly latencyMs: Percentiles;
  /** Share of the answers by model, after the step was made. */
  readonly traffic: Readonly<Record<string, number>>;
  /** Replicas that took requests: the fewest while the step was made, and the number after it. */
  readonly fewestReplicas: number;
  readonly replicas: number;
}

/** The deployment and its traffic at one moment. */
export interface ControlFrame {
  readonly step: string;
  readonly isMade: boolean;
  readonly replicas: readonly { readonly id: string; readonly state: string; readonly ongoing: number }[];
  readonly requestsPerSecond: number;
  readonly traffic: Readonly<Record<string, number>>;
  readonly errors: number;
}

interface Step {
  readonly name: string;
  make(engine: InferenceEngine): Promise<unknown>;
}

const STEPS: readonly Step[] = [
  { name: 'steady', make: async () => undefined },
  { name: `scale to ${MORE_REPLICAS} replicas`, make: (engine) => update(engine, { replicas: MORE_REPLICAS }) },
  { name: 'rolling update', make: (engine) => update(engine, { session: { graphOptimizationLevel: 'extended' } }) },
  ...[0.1, 0.5, 1].map((share) => ({
    name: `${Math.round(100 * share)} % of the traffic to ${NEW}`,
    make: (engine: InferenceEngine) => setTraffic(engine, share),
  })),
  { name: `scale back to ${REPLICAS}`, make: (engine) => update(engine, { replicas: REPLICAS }) },
];

/**
 * Changes a deployment and the traffic of an endpoint under load, and reports what the callers notice.
 *
 * @param holdSeconds how long to go on after each change; longer if there are too few answers by then.
 */
export async function runControlDemo(
  holdSeconds: number,
  onFrame: (frame: ControlFrame) => void,
): Promise<ControlReport> {
  const engine = await createEngine({ models: MODELS, replicas: REPLICAS });
  try {
    await setTraffic(engine, 0);
    const load = new ControlLoad(engine);
    const steps: StepReport[] = [];
    for (const step of STEPS) steps.push(await makeStep(engine, load, step, holdSeconds, onFrame));
    const errors = await load.stop();
    return { callers: CALLERS, steps, requests: load.requests, errors: Object.fromEntries(errors) };
  } finally {
    await engine.close();
  }
}

async function makeStep(
  engine: InferenceEngine,
  load: ControlLoad,
  { name, make }: Step,
  holdSeconds: number,
  onFrame: (frame: ControlFrame) => void,
): Promise<StepReport> {
  const running = () => engine.status().replicas.filter(({ state, express }) => state === 'running' && !express).length;
  const all = load.begin();
  let fewestReplicas = running();
  let isMade = false;
  const frames = setInterval(() => {
    fewestReplicas = isMade ? fewestReplicas : Math.min(fewestReplicas, running());
    const replicas = engine
      .status()
      .replicas.map(({ id, state, ongoing }) => ({ id, state, ongoing }))
      .sort((left, right) => left.id.localeCompare(right.id));
    onFrame({ step: name, isMade, replicas, ...load.sinceLastFrame() });
  }, FRAME_MS);
  try {
    const startedAt = performance.now();
    await make(engine);
    const takenMs = performance.now() - startedAt;
    isMade = true;
    fewestReplicas = Math.min(fewestReplicas, running());
    const after = load.begin();
    await sleep(1_000 * holdSeconds);
    // On a busy machine there would be too few to have shares.
    while (after.requests < LEAST_ANSWERS) await sleep(FRAME_MS);
    return {
      step: name,
      takenMs: round(takenMs, 1),
      requests: all.requests,
      errors: all.errors,
      latencyMs: percentiles(all.latency, 1_000),
      traffic: after.traffic,
      fewestReplicas,
      replicas: running(),
    };
  } finally {
    clearInterval(frames);
  }
}

async function update(engine: InferenceEngine, changes: object): Promise<void> {
  const goal = await engine.deployments.update('default', changes);
  await goal.done;
}

function setTraffic(engine: InferenceEngine, share: number): Promise<void> {
  const traffic = Object.entries({ [OLD]: 1 - share, [NEW]: share }).filter(([, weight]) => weight > 0);
  return engine.endpoints.set(ENDPOINT, { traffic: Object.fromEntries(traffic) });
}

/** Answers since a moment. */
class Tally {
  readonly latency = createHistogram();
  readonly startedAt = performance.now();
  requests = 0;
  errors = 0;
  readonly #byModel = new Map<string, number>();

  answered(model: string, microseconds: number): void {
    this.requests += 1;
    this.latency.record(Math.max(1, Math.round(microseconds)));
    this.#byModel.set(model, (this.#byModel.get(model) ?? 0) + 1);
  }

  failed(): void {
    this.requests += 1;
    this.errors += 1;
  }

  /** Shares of the answers by model. */
  get traffic(): Record<string, number> {
    const answered = this.requests - this.errors;
    const shares = [...this.#byModel].map(
      ([model, count]) => [model, round(count / Math.max(1, answered), 3)] as const,
    );
    return Object.fromEntries(shares.sort(([left], [right]) => right.localeCompare(left)));
  }
}

/** `CALLERS` callers, each of which sends its next request as soon as its last one is answered. */
class ControlLoad {
  readonly #engine: InferenceEngine;
  readonly #digits = readDigits();
  readonly #callers: Promise<void>[];
  readonly #errors = new Map<string, number>();
  #tallies: Tally[] = [];
  #frame = new Tally();
  #isOver = false;
  requests = 0;

  constructor(engine: InferenceEngine) {
    this.#engine = engine;
    this.#callers = Array.from({ length: CALLERS }, (_, caller) => this.#ask(caller));
  }

  /** Returns a tally that counts from now on. */
  begin(): Tally {
    const tally = new Tally();
    this.#tallies = [...this.#tallies.slice(-1), tally];
    return tally;
  }

  sinceLastFrame(): { requestsPerSecond: number; traffic: Record<string, number>; errors: number } {
    const { requests, startedAt, traffic } = this.#frame;
    this.#frame = new Tally();
    const requestsPerSecond = Math.round((1_000 * requests) / (performance.now() - startedAt));
    const errors = [...this.#errors.values()].reduce((sum, count) => sum + count, 0);
    return { requestsPerSecond, traffic, errors };
  }

  /** @returns the number of failed requests by error code. */
  async stop(): Promise<ReadonlyMap<string, number>> {
    this.#isOver = true;
    await Promise.all(this.#callers);
    return this.#errors;
  }

  async #ask(caller: number): Promise<void> {
    for (let index = caller; !this.#isOver; index += CALLERS) {
      const { pixels } = this.#digits[index % this.#digits.length] ?? {};
      if (pixels === undefined) throw new InfermuxError('INTERNAL', 'there are no digits');
      const startedAt = performance.now();
      this.requests += 1;
      // A tally counts requests that are sent after it began, not earlier ones that are answered later.
      const tallies = [this.#frame, ...this.#tallies];
      try {
        const { model } = await this.#engine.infer({
          target: ENDPOINT,
          feeds: { image: { dims: [1, PIXELS], data: pixels } },
        });
        const microseconds = 1_000 * (performance.now() - startedAt);
        for (const tally of tallies) tally.answered(model, microseconds);
      } catch (cause) {
        const code = cause instanceof InfermuxError ? cause.code : 'INTERNAL';
        this.#errors.set(code, (this.#errors.get(code) ?? 0) + 1);
        for (const tally of tallies) tally.failed();
      }
    }
  }
}
