import { isIPv6 } from 'node:net';
import { InfermuxError, show } from '../common/errors.js';

/** Where something listens. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

const MOST_PORT = 65_535;
/** Names of hosts, and addresses of IPv4. */
const NAME = /^[a-z\d_]([\w-]*[a-z\d_])?(\.[a-z\d_]([\w-]*[a-z\d_])?)*\.?$/i;

/**
 * Reads `host:port` or `[host]:port`.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for anything else.
 */
export function parseAddress(text: string): Address {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain ?? '';
  const port = Number(digits);
  const isHost = bracketed === undefined ? NAME.test(host) : isIPv6(host);
  if (isHost && port > 0 && port <= MOST_PORT) return { host, port };
  throw new InfermuxError('INVALID_ARGUMENT', `expected host:port, like 10.0.0.1:8000, got ${show(text)}`);
}

/**
 * Reads addresses with commas between.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for anything else, and for an address that is there twice.
 */
export function parseAddresses(text: string): Address[] {
  const addresses = text.split(',').map((each) => parseAddress(each.trim()));
  const texts = addresses.map(textOf);
  const twice = texts.find((each, index) => texts.indexOf(each) !== index);
  if (twice === undefined) return addresses;
  throw new InfermuxError('INVALID_ARGUMENT', `${twice} is there twice: each node is named once`);
}

/** `host:port`, with brackets about an address of IPv6. */
export function textOf({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
