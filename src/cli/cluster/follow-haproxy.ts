import { pino } from 'pino';
import { MemberWatch } from '../../cluster/membership/members.js';
import { connectNats } from '../../cluster/nats/nats-connection.js';
import { HaproxyFollower } from '../../cluster/proxies/haproxy-follower.js';
import { InfermuxError } from '../../index.js';
import { untilSignal } from '../until-signal.js';

/**
 * Keeps the servers of a running HAProxy the nodes that announce themselves, until a signal ends it.
 *
 * @param isSecure whether HAProxy uses TLS towards nodes.
 */
export async function followHaproxy(nats: string, socket: string, isSecure: boolean): Promise<void> {
  const log = pino({ level: 'info' }, pino.destination(2));
  const connection = await connectNats(nats, 'infermux cluster config haproxy');
  const follower = new HaproxyFollower(socket, log, isSecure);
  const watch = MemberWatch.start(
    connection,
    (members) => follower.tell(members),
    (message) => log.warn(`NATS does not tell who is there: ${message}; trying again`),
  );
  const cause = await Promise.race([untilSignal().then(() => undefined), connection.closed()]);
  watch.stop();
  await follower.stop();
  await connection.close();
  if (cause) throw new InfermuxError('FAILED_PRECONDITION', `the connection to NATS has ended: ${cause.message}`);
}
