import { lookup } from 'node:dns/promises';
import { messageOf } from '../../common/errors.js';
import { parseAddress, textOf } from '../addresses.js';
import type { Members } from '../membership/members.js';
import { commandsFor, type HaproxyServer, type PlacedNode, readServers } from './haproxy-servers.js';
import { askHaproxy } from './runtime-socket.js';

/** HAProxy may have been started again, and then knows no node. */
const LOOK_MS = 1_000;

export interface FollowerLog {
  info(message: string): void;
  warn(message: string): void;
}

/** Keeps the servers of a running HAProxy those that are there. */
export class HaproxyFollower {
  readonly #socket: string;
  readonly #log: FollowerLog;
  readonly #timer: NodeJS.Timeout;
  #members: Members | undefined;
  #turn: Promise<void> = Promise.resolve();
  #isWaiting = false;
  #wasInTrouble = false;
  /** Addresses as they were last found, by that of REST. */
  readonly #found = new Map<string, PlacedNode>();
  /** The nodes for which HAProxy has no slot, as they were last named. */
  #withoutSlot = '';

  constructor(socket: string, log: FollowerLog) {
    this.#socket = socket;
    this.#log = log;
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

  /** Looks the addresses of a node up; undefined when that cannot be done, and never could. */
  async #placed(http: string, grpc: string | undefined): Promise<PlacedNode | undefined> {
    try {
      const placed = { http: await resolved(http), grpc: grpc === undefined ? undefined : await resolved(grpc) };
      this.#found.set(http, placed);
      return placed;
    } catch (cause) {
      if (!this.#found.has(http)) this.#log.warn(`the address of ${http} cannot be found: ${messageOf(cause)}`);
      return this.#found.get(http);
    }
  }

  #lookForRoom(servers: readonly HaproxyServer[], members: Members): void {
    const slots = servers.filter(({ backend, server }) => backend === 'rest' && /^n\d+$/.test(server)).length;
    const without = [...members].filter(([slot]) => slot > slots).map(([, { node }]) => node);
    const said = without.join(', ');
    if (said === this.#withoutSlot) return;
    this.#withoutSlot = said;
    if (said !== '')
      this.#log.warn(`HAProxy has ${slots} slots, and none for ${said}: make its configuration with more --slots`);
  }

  async #apply(members: Members): Promise<void> {
    const nodes = new Map<number, PlacedNode>();
    for (const [slot, { http, grpc }] of members) {
      const placed = await this.#placed(http, grpc);
      if (placed !== undefined) nodes.set(slot, placed);
    }
    const servers = readServers(await askHaproxy(this.#socket, 'show servers state'));
    this.#lookForRoom(servers, members);
    const commands = commandsFor(servers, nodes);
    if (commands.length === 0) return;
    const answers = await askHaproxy(this.#socket, ...commands);
    for (const command of commands) this.#log.info(command);
    const refused = answers.split('\n').filter((line) => /not found|invalid|denied|unknown|require/i.test(line));
    if (refused.length > 0) throw new Error(refused.join('; '));
  }
}

/** HAProxy takes no names while it runs. */
async function resolved(address: string): Promise<string> {
  const { host, port } = parseAddress(address);
  return textOf({ host: (await lookup(host)).address, port });
}
