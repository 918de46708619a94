import { execFileSync } from 'node:child_process';
import { createServer } from 'node:net';

/** A machine of a test: a network namespace of its own, or this machine where none can be made. */
export interface Host {
  readonly address: string;
  /** Whether all its ports are free. */
  readonly isOwn: boolean;
  /** What goes before a command that is to run on it. */
  readonly prefix: readonly string[];
  /** Cuts it off from the others, or connects it again; undefined where that cannot be done. */
  readonly cut: ((isCut: boolean) => void) | undefined;
}

export interface Network {
  /** Whether each host has a namespace. */
  readonly isReal: boolean;
  /** Where this process is, as the hosts see it. */
  readonly own: string;
  readonly hosts: readonly Host[];
  remove(): void;
}

/** This machine. */
export const LOOPBACK: Host = { address: '127.0.0.1', isOwn: false, prefix: [], cut: undefined };

const run = (command: string) => execFileSync('sh', ['-c', command], { stdio: 'pipe' });

let networks = 0;

/** Makes a network of hosts that reach each other and this process. */
export function createNetwork(count: number): Network {
  networks += 1;
  // Several processes may make networks at a time.
  const id = `${(process.pid % 4_096).toString(36)}${networks.toString(36)}`;
  const net = `10.${64 + (process.pid % 128)}.${networks % 256}`;
  const bridge = `imx${id}`;
  const names = Array.from({ length: count }, (_, index) => `imx${id}h${index}`);
  const remove = () => {
    for (const name of names) attempt(`ip netns del ${name}`);
    attempt(`ip link del ${bridge}`);
  };
  try {
    run(`ip link add ${bridge} type bridge && ip addr add ${net}.1/24 dev ${bridge} && ip link set ${bridge} up`);
    const hosts = names.map((name, index): Host => {
      const [outer, inner] = [`v${id}o${index}`, `v${id}i${index}`];
      const address = `${net}.${index + 2}`;
      run(
        `ip netns add ${name} && ip link add ${outer} type veth peer name ${inner} && ip link set ${inner} netns ${name}`,
      );
      run(`ip link set ${outer} master ${bridge} && ip link set ${outer} up`);
      run(
        `ip netns exec ${name} sh -c 'ip addr add ${address}/24 dev ${inner} && ip link set ${inner} up && ip link set lo up'`,
      );
      const cut = (isCut: boolean) => void run(`ip link set ${outer} ${isCut ? 'nomaster' : `master ${bridge}`}`);
      return { address, isOwn: true, prefix: ['ip', 'netns', 'exec', name], cut };
    });
    return { isReal: true, own: `${net}.1`, hosts, remove };
  } catch {
    remove();
    return { isReal: false, own: '127.0.0.1', hosts: names.map(() => LOOPBACK), remove: () => undefined };
  }
}

function attempt(command: string): void {
  try {
    run(command);
  } catch {
    // It is not there.
  }
}

/** Returns a port of this machine that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Whether a program is installed. */
export function isInstalled(program: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  }
}
