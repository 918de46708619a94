import { availableParallelism } from 'node:os';
import { providersOf } from '../contracts/session-settings.js';

/** What a deployment wants of the machine, beside what the others have. */
export interface Demand {
  /** Replicas of all deployments that compute on the CPU. */
  readonly replicas: number;
  /** Those of them that are not there yet. */
  readonly further: number;
  /** Bytes that a further replica is expected to take. */
  readonly bytesPerReplica: number;
}

export interface Capacity {
  readonly cores: number;
  /** Bytes of memory that may still be had. */
  readonly availableBytes: number;
}

/** Why so many replicas are more than the machine bears; undefined when they are not. */
export function overcommitReason(
  { replicas, further, bytesPerReplica }: Demand,
  capacity: Capacity,
): string | undefined {
  const { cores, availableBytes } = capacity;
  if (further <= 0) return undefined;
  const bytes = further * bytesPerReplica;
  if (bytes > availableBytes) {
    return `${further} more replicas are expected to take ${megabytes(bytes)}, and ${megabytes(availableBytes)} of memory are left`;
  }
  if (replicas > cores) return `${replicas} replicas share ${cores} cores`;
  return undefined;
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MB`;
}

/** What a replica takes without any session. */
const BYTES_OF_THREAD = 10 * 2 ** 20;

/** What so many further replicas would take, by what those there are hold on average. */
export function demandOf(deployments: readonly DeploymentLoad[], further: number): Demand {
  const onCpu = deployments.filter(({ options }) => providersOf(options.session).every((name) => name === 'cpu'));
  const running = deployments.flatMap((deployment) => deployment.running);
  const bytes = running.reduce((sum, { counters }) => sum + counters.bytes, 0);
  return {
    replicas: onCpu.reduce((sum, { targetReplicas }) => sum + targetReplicas, 0),
    further,
    bytesPerReplica: BYTES_OF_THREAD + bytes / Math.max(1, running.length),
  };
}

/** What this process may use at present. */
export function machineCapacity(): Capacity {
  return { cores: availableParallelism(), availableBytes: process.availableMemory() };
}

interface DeploymentLoad {
  readonly options: { readonly session: { readonly executionProviders?: unknown } };
  readonly targetReplicas: number;
  readonly running: readonly { readonly counters: { readonly bytes: number } }[];
}
