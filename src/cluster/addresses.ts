import { InfermuxError, show } from '../common/errors.js';

/** Where something listens. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

const MOST_PORT = 65_535;
/** Names and addresses of hosts: what a configuration can hold without quotes. */
const HOST = /^[\w.-]+$|^[\da-f:.]+$/i;

/**
 * Reads `host:port` or `[host]:port`.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for anything else.
 */
export function parseAddress(text: string): Address {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host !== undefined && HOST.test(host) && port > 0 && port <= MOST_PORT) return { host, port };
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
