import type { Snapshot } from '../messages.js';
import { h, reasonOf } from './elements.js';

const KEY = 'infermux-key';
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

function headers(): Record<string, string> {
  const key = sessionStorage.getItem(KEY);
  return key === null ? {} : { authorization: `Bearer ${key}` };
}

/** Asks the server, again when the reader has given a key that it needs. @throws Error with the server's message. */
export async function ask<Answer>(path: string, init: RequestInit = {}): Promise<Answer> {
  for (;;) {
    const response = await fetch(path, { ...init, headers: headers() });
    const answer = (await response.json().catch(() => ({}))) as { readonly error?: string };
    if (response.ok) return answer as Answer;
    if (response.status !== 401) throw new Error(answer.error ?? `the server answered ${response.status}`);
    await askForKey();
  }
}

/** Hears of snapshots until the page is closed; connects again when the connection ends. */
export async function follow(heard: (snapshot: Snapshot) => void, lost: (reason: string) => void): Promise<never> {
  let pauseMs = FIRST_PAUSE_MS;
  for (;;) {
    try {
      // Not an EventSource, which cannot send a key.
      const response = await fetch('api/events', { headers: headers() });
      if (response.status === 401 || response.status === 403) {
        lost('a key is needed');
        await askForKey();
        continue;
      }
      if (!response.ok || response.body === null) throw new Error(`the server answered ${response.status}`);
      for await (const message of messages(response.body)) {
        pauseMs = FIRST_PAUSE_MS;
        heard(JSON.parse(message) as Snapshot);
      }
      lost('the connection ended');
    } catch (error) {
      lost(reasonOf(error));
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    pauseMs = Math.min(LONGEST_PAUSE_MS, 2 * pauseMs);
  }
}

/** The data of server-sent events, which are one line each. */
async function* messages(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let text = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      const parts = text.split('\n\n');
      text = parts.pop() ?? '';
      for (const part of parts) if (part.startsWith('data: ')) yield part.slice('data: '.length);
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

let asking: Promise<void> | undefined;

/** Shows a form for the key, above whatever the page shows; resolves when one was given. */
function askForKey(): Promise<void> {
  asking ??= new Promise<void>((resolve) => {
    const input = h('input', { type: 'password', id: 'key', autocomplete: 'current-password', required: true });
    const form = h(
      'form',
      {
        class: 'card',
        onsubmit: (event) => {
          event.preventDefault();
          sessionStorage.setItem(KEY, input.value);
          form.remove();
          asking = undefined;
          resolve();
        },
      },
      h('label', { for: 'key' }, 'This server needs a key'),
      sessionStorage.getItem(KEY) !== null &&
        h('p', { class: 'bad', role: 'alert' }, 'The server refused the last key.'),
      h('div', { class: 'row' }, input, h('button', { class: 'act main' }, 'Use it')),
    );
    document.querySelector('#login')?.replaceChildren(form);
    input.focus();
  });
  return asking;
}
