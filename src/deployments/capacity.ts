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

/** What deployments have taken of it, by what they declare. */
export interface Taken {
  readonly cores: number;
  readonly memoryBytes: number;
  /** Shares of devices, by their indices. */
  readonly devices: ReadonlyMap<number, number>;
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
  /** Indices of the devices that the deployment names. */
  readonly deviceIds: readonly number[];
  /** What it has at present: what takes no more of something fits. */
  readonly held: Taken;
}

/** How many of the replicas fit, and what is short if not all do. */
export interface Fit {
  readonly fits: number;
  readonly reason: string | undefined;
}

/** Sums of parts such as 0.1 are not exact. */
const ROUNDING = 1e-6;

/** Returns how many of the replicas that the deployment wants fit beside the others. */
export function fitOf({ from, to, ...demand }: Demand, taken: Taken, capacity: Capacity): Fit {
  const { cores, memoryBytes, isMemoryDeclared, devices, deviceIds, held } = demand;
  const freeCores = rounded(Math.max(0, capacity.cores - taken.cores));
  const free = Math.max(0, capacity.totalBytes - taken.memoryBytes);
  const freeDevices = rounded(sumOf(deviceIds, (id) => Math.max(0, 1 - (taken.devices.get(id) ?? 0))));
  const heldDevices = sumOf(deviceIds, (id) => held.devices.get(id) ?? 0);
  const limits: (readonly [isMore: boolean, most: number, what: string])[] = [
    [
      isMore(to * cores, held.cores),
      mostOf(freeCores, cores),
      `${count(to * cores, 'core')}, and ${freeCores} of ${capacity.cores} are left`,
    ],
    [
      isMore(to * devices, heldDevices),
      mostOf(freeDevices, devices),
      `${count(to * devices, 'device')}, and ${freeDevices} of ${deviceIds.length} are left`,
    ],
    [
      to > from,
      from + mostOf(capacity.availableBytes, memoryBytes),
      `${megabytes((to - from) * memoryBytes)} more, and ${megabytes(capacity.availableBytes)} of memory are left`,
    ],
    [
      isMemoryDeclared && isMore(to * memoryBytes, held.memoryBytes),
      mostOf(free, memoryBytes),
      `${megabytes(to * memoryBytes)}, and ${megabytes(free)} of memory are free`,
    ],
  ];
  let [most, short] = [to, ''];
  for (const [isMoreThanHeld, limit, what] of limits) if (isMoreThanHeld && limit < most) [most, short] = [limit, what];
  if (to <= most) return { fits: to, reason: undefined };
  return {
    fits: most,
    reason: `${count(to, 'replica')} would take ${short}: ${most === 1 ? '1 fits' : `${most} fit`}`,
  };
}

/** Whether the deployment takes more of anything than it has. */
export function takesMore({
  from,
  to,
  cores,
  memoryBytes,
  isMemoryDeclared,
  devices,
  deviceIds,
  held,
}: Demand): boolean {
  const heldDevices = sumOf(deviceIds, (id) => held.devices.get(id) ?? 0);
  const isMoreMemory = isMemoryDeclared && isMore(to * memoryBytes, held.memoryBytes);
  return to > from || isMore(to * cores, held.cores) || isMore(to * devices, heldDevices) || isMoreMemory;
}

function isMore(wanted: number, held: number): boolean {
  return wanted > held + ROUNDING;
}

/** How often the need fits; a need of 0 always does. */
function mostOf(room: number, need: number): number {
  return need === 0 ? Number.POSITIVE_INFINITY : Math.floor(room / need + ROUNDING);
}

function sumOf<T>(items: readonly T[], amountOf: (item: T) => number): number {
  return items.reduce((sum, item) => sum + amountOf(item), 0);
}

function rounded(number: number): number {
  return Number(number.toFixed(6));
}

function count(number: number, what: string): string {
  const told = Number(number.toFixed(3));
  return `${told} ${what}${told === 1 ? '' : 's'}`;
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
  return takenBy(deployments.filter((deployment) => deployment.name !== name));
}

/** A deployment's devices are taken alike. */
function takenBy(deployments: readonly Pick<DeploymentLoad, 'options' | 'targetReplicas'>[]): Taken {
  let [cores, memoryBytes] = [0, 0];
  const taken = new Map<number, number>();
  for (const { options, targetReplicas } of deployments) {
    const { resources, devices = [] } = options;
    cores += targetReplicas * coresOf(options);
    memoryBytes += targetReplicas * (resources.memoryBytes ?? 0);
    const share = (targetReplicas * (resources.devices ?? 0)) / devices.length;
    for (const id of devices) taken.set(id, (taken.get(id) ?? 0) + share);
  }
  return { cores, memoryBytes, devices: taken };
}

/** What the deployment wants. A replica that declares no memory is expected to hold as much as a running one does. */
export function demandOf(
  name: string,
  options: Options,
  { from, to }: Scale,
  deployments: readonly DeploymentLoad[],
): Demand {
  const own = deployments.filter((deployment) => deployment.name === name);
  const running = deployments.flatMap((deployment) => deployment.running);
  const bytes = sumOf(running, ({ counters }) => counters.bytes);
  const { memoryBytes, devices = 0 } = options.resources;
  return {
    ...{ from, to, cores: coresOf(options), isMemoryDeclared: memoryBytes !== undefined },
    memoryBytes: memoryBytes ?? BYTES_OF_THREAD + bytes / Math.max(1, running.length),
    devices: options.devices === undefined ? 0 : devices,
    deviceIds: options.devices ?? [],
    held: takenBy(own.map((deployment) => ({ options: deployment.options, targetReplicas: from }))),
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
