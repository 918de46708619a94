import type { Socket } from 'node:net';
import type { FastifyRequest } from 'fastify';
import { InfermuxError } from '../../index.js';
import { ClientSignal } from '../client-signal.js';

const signals = new WeakMap<Socket, AbortSignal>();

/**
 * Returns a signal that is aborted when the client of the request goes away. All requests of a connection of HTTP/1.1 have
 * the same one, since they end with it.
 */
export function clientSignal({ raw }: FastifyRequest): AbortSignal {
  if (raw.httpVersionMajor > 1) return signalOf(raw, 'aborted');
  const known = signals.get(raw.socket);
  if (known !== undefined) return known;
  const signal = signalOf(raw.socket, 'close');
  signals.set(raw.socket, signal);
  return signal;
}

function signalOf(emitter: NodeJS.EventEmitter, event: string): AbortSignal {
  const client = new ClientSignal();
  emitter.once(event, () => client.abort(clientGone));
  return client.signal;
}

const clientGone = () => new InfermuxError('CANCELLED', 'the client went away');
