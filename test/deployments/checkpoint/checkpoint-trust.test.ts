import { expect, it } from 'vitest';
import { doubtCheckpoint } from '../../../dist/deployments/checkpoint/checkpoint-trust.js';

const USER = 1000;
const STRANGER = 1001;
const of = (uid: number, mode: number, gid = uid) => ({ uid, gid, mode });

it.each([
  ['of this user', of(USER, 0o100600), of(USER, 0o40755), USER],
  ['of this user, whose own group may write', of(USER, 0o100664), of(USER, 0o40775), USER],
  ['of this user in a folder like /tmp, where nobody may replace it', of(USER, 0o100600), of(0, 0o41777), USER],
  ['of root, who mounted it', of(0, 0o100644), of(0, 0o40755), USER],
  ['of whomever, where there are no modes', of(0, 0o100666), of(0, 0o40777), undefined],
])('a checkpoint %s is believed', (_, file, folder, user) => {
  expect(doubtCheckpoint(file, folder, user)).toBeUndefined();
});

it.each([
  [
    'another user, as a network disk shows it',
    of(STRANGER, 0o100600),
    of(STRANGER, 0o40755),
    USER,
    'belongs to user 1001',
  ],
  ["the host's user, read by a container's root", of(USER, 0o100600), of(USER, 0o40755), 0, 'belongs to user 1000'],
  ['a group', of(USER, 0o100664, 50), of(USER, 0o40755), USER, 'may be written by group 50 (mode 664)'],
  [
    'this user, in a folder where anybody may put another file in its place',
    of(USER, 0o100600),
    of(0, 0o40777),
    USER,
    'lies in a folder that may be written by everybody (mode 777)',
  ],
])('a checkpoint of %s is doubtful, and no more', (_, file, folder, user, reason) => {
  expect(doubtCheckpoint(file, folder, user)).toEqual({ isRefused: false, reason: expect.stringContaining(reason) });
});

it.each([
  ['that anybody may write', of(USER, 0o100666), of(USER, 0o40700), USER, 'chmod 600 it'],
  ['of another user, in a folder like /tmp', of(STRANGER, 0o100600), of(0, 0o41777), USER, 'chown it'],
  ['of another user, in a folder that anybody may change', of(STRANGER, 0o100644), of(USER, 0o40777), USER, 'chown it'],
  ['of another user, read by root', of(STRANGER, 0o100600), of(0, 0o41777), 0, 'chown it'],
])('a checkpoint %s is refused', (_, file, folder, user, advice) => {
  expect(doubtCheckpoint(file, folder, user)).toEqual({ isRefused: true, reason: expect.stringContaining(advice) });
});
