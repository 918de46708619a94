import { availableParallelism, totalmem } from 'node:os';
import { providersOf } from '../contracts/session-settings.js';
import type { ResolvedDeploymentOptions } from './config/deployment-options.js';

/** What the machine has for replicas. */
export interface Capacity {
  readonly cores: number;
  /** Bytes of memory that this process may use in all. */
  readonly totalBytes: number;
  /** Bytes of memory that are still available. */
  readonly availableBytes: number;
}

/** What the other deployments have taken of it, by what they declare. */
export interface Taken {
  readonly cores: number;
  readonly memoryBytes: number;
}

/** A change of the number of replicas. */
export interface Scale {
  /** Replicas that there are, or should be, at present. */
  readonly from: number;
  readonly to: number;
}

/** What a deployment wants. */
export interface Demand extends Scale {
  /** Of each replica. */
  readonly cores: number;
  readonly memoryBytes: number;
  /** Whether that is declared; otherwise it is expected. */
  readonly isMemoryDeclared: boolean;
  /** Devices of each replica; 0 when it declares none, or the deployment names none. */
  readonly devices: number;
  /** Devices that the deployment names. */
  readonly deviceCount: number;
}

/** How many of the replicas fit, and what is short if not all do. */
export interface Fit {
  readonly fits: number;
  readonly reason: string | undefined;
}

/** Returns how many of the replicas that the deployment wants fit beside the others. */
export function fitOf({ from, to, ...demand }: Demand, taken: Taken, capacity: Capacity): Fit {
  const { cores, memoryBytes, isMemoryDeclared, devices, deviceCount } = demand;
  const freeCores = Math.max(0, capacity.cores - taken.cores);
  const free = Math.max(0, capacity.totalBytes - taken.memoryBytes);
  const limits: (readonly [most: number, what: string])[] = [
    [mostOf(freeCores, cores), `${count(to * cores, 'core')}, and ${freeCores} of ${capacity.cores} are left`],
    [mostOf(deviceCount, devices), `${count(to * devices, 'device')}, and there are ${deviceCount}`],
    [
      from + mostOf(capacity.availableBytes, memoryBytes),
      `${megabytes((to - from) * memoryBytes)} more, and ${megabytes(capacity.availableBytes)} of memory are left`,
    ],
  ];
  if (isMemoryDeclared)
    limits.push([
      mostOf(free, memoryBytes),
      `${megabytes(to * memoryBytes)}, and ${megabytes(free)} of memory are free`,
    ]);
  const [most, what] = limits.reduce((least, limit) => (limit[0] < least[0] ? limit : least));
  if (to <= most) return { fits: to, reason: undefined };
  const fits = Math.max(0, most);
  return { fits, reason: `${count(to, 'replica')} would take ${what}: ${fits === 1 ? '1 fits' : `${fits} fit`}` };
}

/** How often the need fits; a need of 0 always does. */
function mostOf(room: number, need: number): number {
  return need === 0 ? Number.POSITIVE_INFINITY : Math.floor(room / need);
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MB`;
}

/** Bytes of a replica without sessions. */
const BYTES_OF_THREAD = 10 * 2 ** 20;

type Options = Pick<ResolvedDeploymentOptions, 'session' | 'resources' | 'devices'>;

export interface DeploymentLoad {
  readonly name: string;
  readonly options: Options;
  readonly targetReplicas: number;
  readonly running: readonly { readonly counters: { readonly bytes: number } }[];
}

/** What the deployments take by their targets, but for the one of this name. */
export function takenBeside(name: string, deployments: readonly DeploymentLoad[]): Taken {
  let [cores, memoryBytes] = [0, 0];
  for (const { options, targetReplicas, ...other } of deployments) {
    if (other.name === name) continue;
    cores += targetReplicas * coresOf(options);
    memoryBytes += targetReplicas * (options.resources.memoryBytes ?? 0);
  }
  return { cores, memoryBytes };
}

/** What the deployment wants. A replica that declares no memory is expected to hold as much as a running one does. */
export function demandOf(options: Options, { from, to }: Scale, deployments: readonly DeploymentLoad[]): Demand {
  const running = deployments.flatMap((deployment) => deployment.running);
  const bytes = running.reduce((sum, { counters }) => sum + counters.bytes, 0);
  const { memoryBytes, devices = 0 } = options.resources;
  return {
    ...{ from, to, cores: coresOf(options), isMemoryDeclared: memoryBytes !== undefined },
    memoryBytes: memoryBytes ?? BYTES_OF_THREAD + bytes / Math.max(1, running.length),
    devices: options.devices === undefined ? 0 : devices,
    deviceCount: options.devices?.length ?? 0,
  };
}

/** A replica that computes elsewhere takes no core, unless it says so. */
function coresOf({ session, resources }: Options): number {
  return resources.cores ?? (providersOf(session).every((name) => name === 'cpu') ? 1 : 0);
}

/** Returns what this process may use at present. */
export function machineCapacity(): Capacity {
  const total = totalmem();
  // Where nothing limits the process it is 0, or more than there is.
  const limit = process.constrainedMemory() || total;
  return {
    cores: availableParallelism(),
    totalBytes: Math.min(limit, total),
    availableBytes: process.availableMemory(),
  };
}
