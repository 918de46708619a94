import { chooseTwo } from '../../dist/routing/routers/ranks.js';
import type { SimulatedModel } from './machine/simulated-model.js';
import { VirtualClock } from './machine/virtual-clock.js';
import { type Outcome, Outcomes } from './outcome.js';
import { type Random, seeded } from './random.js';
import { CRASH_EVERY, QUEUE_LIMIT, REJOIN_AFTER, type Setting, slownessOf } from './setting.js';
import { type Arrival, SERVICE_MS, Workload } from './workload.js';

/** `max_ongoing_requests` of a replica. */
const MOST_ONGOING = 5;
/** Milliseconds between tries. */
const BACK_OFF_MS = [0, 50, 100, 150, 200, 500, 1_000];
/** For this long, and up to twice as long, a request looks for replicas that have its model. */
const MATCHING_MS = 1_000;

interface Replica {
  readonly slowness: number;
  /** Ongoing requests, which run one after the other; the first runs now. */
  readonly queue: { readonly request: number; readonly since: number; readonly arrival: Arrival }[];
  /** Sessions, the least recently used first. */
  readonly sessions: Map<string, SimulatedModel>;
  bytes: number;
  isDead: boolean;
}

/**
 * Simulates the router of Ray Serve 2, as in its source (`pow_2_router.py`): a request asks two random replicas, at
 * first of the replicas that have its model, then of those with the fewest models, and after one to two seconds of all
 * replicas. It goes to the one with the shorter queue, unless both are full; then it asks again after a while. Replicas
 * queue requests.
 */
export function simulateRayServe(setting: Setting, seed: number): Outcome {
  const clock = new VirtualClock();
  const workload = new Workload(setting, seed);
  const random = seeded(seed + 1_000_003);
  const outcomes = new Outcomes(setting);
  const replicas = Array.from({ length: setting.replicas }, (_, index) => newReplica(slownessOf(setting, index)));
  let waiting = 0;

  const begin = (replica: Replica): void => {
    const [first] = replica.queue;
    if (first === undefined) return;
    const { model, serviceMs } = first.arrival;
    const loadMs = replica.sessions.has(model.key) ? 0 : load(replica, model, workload.replicaBytes);
    if (loadMs > 0) outcomes.loaded(loadMs);
    replica.sessions.delete(model.key);
    replica.sessions.set(model.key, model);
    clock.after((loadMs + serviceMs) * replica.slowness, () => {
      if (replica.isDead) return;
      replica.queue.shift();
      outcomes.answered(first.request, clock.now() - first.since);
      begin(replica);
    });
  };

  const route = (request: number, arrival: Arrival, since: number): void => {
    const matchUntil = clock.now() + MATCHING_MS * (1 + random());
    waiting += 1;
    if (waiting > QUEUE_LIMIT * setting.replicas) outcomes.refused();
    const attempt = (tries: number): void => {
      const candidates = candidatesFor(arrival.model.key, tries, clock.now() < matchUntil, replicas);
      const chosen = shorterOfTwo(candidates, random);
      if (chosen !== undefined && chosen.queue.length < MOST_ONGOING) {
        waiting -= 1;
        chosen.queue.push({ request, since, arrival });
        if (chosen.queue.length === 1) begin(chosen);
        return;
      }
      clock.after(BACK_OFF_MS[Math.min(tries, BACK_OFF_MS.length - 1)] as number, () => attempt(tries + 1));
    };
    attempt(0);
  };

  const scheduleNext = () => {
    const arrival = workload.next();
    clock.after(arrival.gapMs, () => {
      route(outcomes.arrived(), arrival, clock.now());
      if (!outcomes.isAllArrived) scheduleNext();
    });
  };
  if (setting.trouble !== 'cold') {
    workload.models.forEach((model, index) => {
      const replica = replicas[index % replicas.length] as Replica;
      if (replica.bytes + model.bytes <= workload.replicaBytes) load(replica, model, workload.replicaBytes);
    });
  }
  const crash = (): void => {
    const [replica] = replicas.splice(Math.floor(random() * replicas.length), 1);
    if (replica === undefined) return;
    replica.isDead = true;
    for (const { request, arrival, since } of replica.queue) route(request, arrival, since);
    clock.after(REJOIN_AFTER * SERVICE_MS, () => replicas.push(newReplica(1)));
    clock.after(CRASH_EVERY * SERVICE_MS, crash);
  };
  if (setting.trouble === 'crashing') clock.after(CRASH_EVERY * SERVICE_MS, crash);
  scheduleNext();
  while (!outcomes.isOver && clock.step());
  return outcomes.result();
}

function newReplica(slowness: number): Replica {
  return { slowness, queue: [], sessions: new Map(), bytes: 0, isDead: false };
}

/** Loads the model, and evicts as many sessions as needed. @returns milliseconds of the load. */
function load(replica: Replica, model: SimulatedModel, maxBytes: number): number {
  const { sessions } = replica;
  for (const [key, { bytes }] of sessions) {
    if (replica.bytes + model.bytes <= maxBytes) break;
    sessions.delete(key);
    replica.bytes -= bytes;
  }
  sessions.set(model.key, model);
  replica.bytes += model.bytes;
  return model.loadMs;
}

function candidatesFor(
  key: string,
  tries: number,
  isMatching: boolean,
  replicas: readonly Replica[],
): readonly Replica[] {
  if (!isMatching) return replicas;
  const warm = tries === 0 ? replicas.filter(({ sessions }) => sessions.has(key)) : [];
  if (warm.length > 0) return warm;
  const fewest = Math.min(...replicas.map(({ sessions }) => sessions.size));
  return replicas.filter(({ sessions }) => sessions.size === fewest);
}

function shorterOfTwo(replicas: readonly Replica[], random: Random): Replica | undefined {
  const [one, other] = chooseTwo(replicas, random);
  return one === undefined || other === undefined || one.queue.length <= other.queue.length ? one : other;
}
