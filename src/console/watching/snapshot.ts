import { PACKAGE_VERSION } from '../../common/package-version.js';
import type { EngineStatus, InferenceEngine, ReplicaStatus } from '../../index.js';
import type { DeploymentLine, EndpointLine, ModelLine, ReplicaLine, Snapshot } from '../messages.js';
import type { Interval } from './counts.js';
import type { Happenings } from './happenings.js';

/** The page shows no more models; it says how many there are. */
const MOST_MODELS = 200;
/** Events and errors of one message. */
const MOST_LINES = 100;

export interface Moment {
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  /** The last second, for charts. */
  readonly second: Interval;
  /** The last ten seconds, for tables. */
  readonly while: Interval;
}

/** Describes the engine as its status says. */
export function snapshotOf(
  engine: InferenceEngine,
  { ready, replicas, models, queued }: EngineStatus,
  happenings: Happenings,
  moment: Moment,
  isAdmin: boolean,
): Snapshot {
  const { second, while: recent } = moment;
  const versions = new Map<string, number>();
  for (const { id } of models) versions.set(id, (versions.get(id) ?? 0) + 1);
  const lines = models.map((model): ModelLine => {
    const { id, version, bytes, queued: waiting } = model;
    // The metrics know models by their id: the version that the id stands for shows what all of them do.
    const isShown = versions.get(id) === 1 || engine.models.get(id)?.version === version;
    const activity = isShown ? recent.ofModel(id) : { requests: 0, errors: 0, latency: undefined };
    return { id, version, bytes, queued: waiting, replicas: model.replicas.length, ...activity };
  });
  return {
    at: moment.at,
    version: PACKAGE_VERSION,
    isReady: ready,
    isAdmin,
    total: {
      ...second.total,
      queued,
      ongoing: replicas.reduce((sum, { ongoing }) => sum + ongoing, 0),
      batch: second.batch,
      loads: second.loads,
      evictions: second.evictions,
    },
    models: lines.length > MOST_MODELS ? busiest(lines) : lines,
    modelCount: models.length,
    replicas: replicas.map((replica) => replicaLine(replica, second)),
    deployments: deploymentLines(engine),
    endpoints: endpointLines(engine, recent),
    events: happenings.events.slice(-MOST_LINES),
    errors: happenings.errors.slice(0, MOST_LINES),
  };
}

function busiest(lines: readonly ModelLine[]): ModelLine[] {
  const worth = ({ requests, queued, replicas }: ModelLine) => requests + queued + replicas / 1e3;
  return [...lines].sort((left, right) => worth(right) - worth(left)).slice(0, MOST_MODELS);
}

function replicaLine(replica: ReplicaStatus, second: Interval): ReplicaLine {
  const { id, deployment, state, express, ongoing, failed, restarts, models, work } = replica;
  const [first] = work;
  return {
    ...{ id, deployment, state, isExpress: express, ongoing, failed, restarts, perSecond: second.ofReplica(id) },
    work: first && { model: first.model, requests: first.requests, isWide: first.wide },
    models: models.map((session) => ({
      id: session.id,
      version: session.version,
      isLoading: session.state === 'loading',
      isWide: session.wide,
      isShared: session.weights === 'shared',
    })),
  };
}

function deploymentLines({ deployments }: InferenceEngine): DeploymentLine[] {
  return deployments.list().map((report) => {
    const { name, state, ready, targetReplicas, runningReplicas, queued, ongoing, goal, lastFailure, options } = report;
    const { autoscaling } = options;
    return {
      ...{
        name,
        state,
        isReady: ready,
        target: targetReplicas,
        running: runningReplicas,
        queued,
        ongoing,
        lastFailure,
      },
      goal: goal.status,
      autoscaling: autoscaling && { min: autoscaling.minReplicas, max: autoscaling.maxReplicas },
    };
  });
}

function sharesIn(shares: Readonly<Record<string, number>>): EndpointLine['traffic'] {
  return Object.entries(shares).map(([target, share]) => ({ target, share }));
}

function endpointLines({ endpoints }: InferenceEngine, recent: Interval): EndpointLine[] {
  return endpoints.list().map(({ name, traffic, shadow }) => ({
    ...{ name, perSecond: recent.ofEndpoint(name), traffic: sharesIn(traffic), shadows: sharesIn(shadow) },
  }));
}
