import { availableParallelism } from 'node:os';
import { providersOf } from '../contracts/session-settings.js';

/** What the replicas of all deployments need, and how much of it is new. */
export interface Demand {
  /** Number of replicas, of all deployments, that compute on the CPU. */
  readonly replicas: number;
  /** Number of replicas that do not exist yet. */
  readonly further: number;
  /** Bytes that one further replica is expected to take. */
  readonly bytesPerReplica: number;
}

/** What the machine has for replicas. */
export interface Capacity {
  readonly cores: number;
  /** Bytes of memory that are still available. */
  readonly availableBytes: number;
}

/** Returns why the demand exceeds the capacity; undefined when it does not. */
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

/** Bytes of a replica without sessions. */
const BYTES_OF_THREAD = 10 * 2 ** 20;

/**
 * Returns the demand of the deployments.
 *
 * @param further number of new replicas, each expected to hold as many bytes as a running one does on average.
 */
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

/** Returns what this process may use at present. */
export function machineCapacity(): Capacity {
  return { cores: availableParallelism(), availableBytes: process.availableMemory() };
}

interface DeploymentLoad {
  readonly options: { readonly session: { readonly executionProviders?: unknown } };
  readonly targetReplicas: number;
  readonly running: readonly { readonly counters: { readonly bytes: number } }[];
}
