import { lookup } from 'node:dns/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../common/errors.js';
import { parseAddress, textOf } from '../addresses.js';
import type { Members } from '../membership/members.js';
import type { NodeRecord } from '../membership/node-record.js';
import { commandsFor, type HaproxyServer, type PlacedNode, readServers } from './haproxy-servers.js';
import { askHaproxy } from './runtime-socket.js';

/** HAProxy may have been started again, and then knows no node. */
const LOOK_MS = 1_000;
/** After that the last address of a node is used. */
const LOOKUP_MS = 1_000;
/** How long the result of a lookup counts: longer than from one look to the next. */
const KEEP_MS = 1_500;

export interface FollowerLog {
  info(message: string): void;
  warn(message: string): void;
}

/** Keeps the servers of a running HAProxy those that are there. */
export class HaproxyFollower {
  readonly #socket: string;
  readonly #log: FollowerLog;
  readonly #isSecure: boolean;
  readonly #timer: NodeJS.Timeout;
  #members: Members | undefined;
  #turn: Promise<void> = Promise.resolve();
  #isWaiting = false;
  #wasInTrouble = false;
  /** Nodes with their addresses as they were last found, by that of REST. */
  #found = new Map<string, PlacedNode>();
  /** Lookups that go on, or have ended a moment ago. */
  readonly #looking = new Map<string, { readonly since: number; readonly placed: Promise<PlacedNode> }>();
  /** What keeps nodes out, as it was last said. */
  #said: ReadonlySet<string> = new Set();

  /** @param isSecure whether HAProxy uses TLS towards nodes. */
  constructor(socket: string, log: FollowerLog, isSecure = false) {
    this.#socket = socket;
    this.#log = log;
    this.#isSecure = isSecure;
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  /** The members have changed. */
  tell(members: Members): void {
    this.#members = members;
    this.#look();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#members = undefined;
    await this.#turn;
  }

  #look(): void {
    // One look after the one that goes on sees all that has happened.
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    this.#turn = this.#turn.then(async () => {
      this.#isWaiting = false;
      if (this.#members === undefined) return;
      try {
        await this.#apply(this.#members);
        this.#wasInTrouble = false;
      } catch (cause) {
        if (!this.#wasInTrouble) this.#log.warn(`HAProxy at ${this.#socket}: ${messageOf(cause)}; trying again`);
        this.#wasInTrouble = true;
      }
    });
  }

  /** Says what keeps nodes out, each once as long as it does. */
  #warn(problems: readonly Problem[]): void {
    for (const { what, why } of problems) if (!this.#said.has(what)) this.#log.warn(`${what}: ${why}`);
    this.#said = new Set(problems.map(({ what }) => what));
  }

  /** Looks a node up, in the background where that takes long. @throws Error meanwhile: one name must not hold up the others. */
  async #place(http: string, grpc: string | undefined): Promise<PlacedNode> {
    let looking = this.#looking.get(http);
    if (looking === undefined) {
      const placed = placedNode(http, grpc).finally(() => {
        // The next look takes what came late.
        setTimeout(() => this.#looking.delete(http), KEEP_MS).unref();
      });
      looking = { since: performance.now(), placed };
      this.#looking.set(http, looking);
    }
    const left = Math.max(0, LOOKUP_MS - (performance.now() - looking.since));
    const late = sleep(left, undefined, { ref: false }).then(() => {
      throw new Error(`no answer within ${LOOKUP_MS} ms`);
    });
    return Promise.race([looking.placed, late]);
  }

  /** Finds out where the nodes are that are to get requests. */
  async #placeAll(members: Members, slots: number): Promise<Placing> {
    const placing: Placing = { nodes: new Map(), unknown: new Set(), problems: [] };
    const found = new Map<string, PlacedNode>();
    const place = async (slot: number, { node, http, grpc, tls, draining }: NodeRecord): Promise<void> => {
      // HAProxy lets a server in maintenance answer what it has.
      if (draining === true) return;
      const unfit = unfitness(slot, slots) ?? tlsMismatch(tls === true, this.#isSecure);
      if (unfit !== undefined) {
        placing.problems.push({ what: `${node} gets no requests`, why: unfit });
        return;
      }
      const placed = await this.#place(http, grpc).catch((cause: unknown) => {
        placing.problems.push({ what: `the address of ${node} cannot be looked up`, why: messageOf(cause) });
        return this.#found.get(http);
      });
      if (placed === undefined) placing.unknown.add(slot);
      else {
        placing.nodes.set(slot, placed);
        found.set(http, placed);
      }
    };
    await Promise.all([...members].map(([slot, record]) => place(slot, record)));
    this.#found = found;
    return placing;
  }

  async #apply(members: Members): Promise<void> {
    const servers = readServers(await askHaproxy(this.#socket, 'show servers state'));
    const slots = servers.filter(({ backend, server }) => backend === 'rest' && /^n\d+$/.test(server)).length;
    const { nodes, unknown, problems } = await this.#placeAll(members, slots);
    this.#warn(problems);
    const isLeft = leftServers(servers, nodes);
    const commands = commandsFor(servers, nodes, (slot, server) =>
      members.has(slot) ? !unknown.has(slot) : isLeft(slot, server),
    );
    if (commands.length === 0) return;
    const answers = await askHaproxy(this.#socket, ...commands);
    for (const change of changesOf(commands, members)) this.#log.info(change);
    const refused = answers.split('\n').filter((line) => /not found|invalid|denied|unknown|require/i.test(line));
    if (refused.length > 0) throw new Error(refused.join('; '));
  }
}

interface Placing {
  readonly nodes: Map<number, PlacedNode>;
  /** Slots of nodes that are there, and of which nobody knows where. */
  readonly unknown: Set<number>;
  readonly problems: Problem[];
}

/** Why a node is not among the servers. */
interface Problem {
  readonly what: string;
  readonly why: string;
}

/**
 * Tells which servers of slots that no node has are to get nothing. A node that is not heard of may have lost NATS, and still answer:
 * its server stays while it is ready. One that has moved to another slot is there.
 */
function leftServers(servers: readonly HaproxyServer[], nodes: ReadonlyMap<number, PlacedNode>) {
  const places = new Set([...nodes.values()].flatMap(({ http, grpc }) => [http, grpc]));
  // The other backends ask for more than that a node is there.
  const ready = servers.filter(({ backend }) => backend === 'rest_ready');
  const gone = new Set(ready.filter(({ isDown }) => isDown).map(({ server }) => server));
  return (slot: number, { address: host, port }: HaproxyServer): boolean =>
    gone.has(`n${slot}`) || places.has(textOf({ host, port }));
}

/** What commands change, a sentence for each server that is concerned. */
function changesOf(commands: readonly string[], members: Members): string[] {
  const slots = new Set(commands.map((command) => Number(/\/n(\d+) /.exec(command)?.[1])));
  return [...slots].map((slot) => {
    const own = commands.filter((command) => command.includes(`/n${slot} `));
    if (own.every((command) => command.endsWith(' state maint'))) return `n${slot} gets no more requests`;
    const { node, http } = members.get(slot) ?? {};
    return `n${slot} is ${node} at ${http}`;
  });
}

/** Why a node cannot be a server; undefined where it can. */
function unfitness(slot: number, slots: number): string | undefined {
  if (slot <= slots) return undefined;
  return `it has slot ${slot}, and HAProxy has ${slots}: make its configuration with more --slots`;
}

function tlsMismatch(hasTls: boolean, isSecure: boolean): string | undefined {
  if (hasTls === isSecure) return undefined;
  return hasTls
    ? 'it has TLS: make the configuration of HAProxy with --node-ca, and give it to this command, too'
    : 'it has no TLS, and with --node-ca each node needs it';
}

/** Looks the addresses of a node up: HAProxy takes no names while it runs. */
async function placedNode(http: string, grpc: string | undefined): Promise<PlacedNode> {
  return { http: await resolved(http), grpc: grpc === undefined ? undefined : await resolved(grpc) };
}

async function resolved(address: string): Promise<string> {
  const { host, port } = parseAddress(address);
  return textOf({ host: (await lookup(host)).address, port });
}
