/** What a conformance run is going to do to a token, said before it does anything. */
import { createInterface } from 'node:readline/promises';

import { RUN_LABEL } from '../hsm/conformance-objects.ts';
import type { TokenSelector } from '../hsm/protocol.ts';
import { ROOT_LABEL } from '../hsm/templates.ts';

export interface Announced {
  readonly module: string;
  readonly tokenSelector: TokenSelector;
  readonly pinFile: string;
  readonly run: string;
  /** Whether it measures speeds, too. */
  readonly measures: boolean;
}

export function announcement({
  module,
  tokenSelector,
  pinFile,
  run,
  measures,
}: Announced): string[] {
  return [
    `Module: ${module}`,
    `Token:  ${selectorText(tokenSelector)}`,
    `PIN:    from ${pinFile}`,
    '',
    'This run will',
    `  - log in as user with that PIN, in ${measures ? 'four' : 'three'} processes one after the other; a PIN that is refused is`,
    '    not offered again;',
    '  - list the token’s objects (class, label, id) before and after, to compare;',
    '  - make and destroy session objects: EC pairs on P-256, P-384 and P-521, X25519, Ed25519 and RSA',
    '    pairs, AES-256 and HMAC keys, secrets that ECDH yields, copies that it unwraps;',
    `  - make and destroy token objects, all labelled ${RUN_LABEL}${run}-…: one AES-256`,
    '    wrapping key (where the token has no root of this service) and private keys of each kind;',
    `  - destroy token objects labelled ${RUN_LABEL}… that an interrupted run left;`,
    `  - where there is a root (${ROOT_LABEL}…), wrap and unwrap session keys with it and try on it`,
    '    what someone with the user PIN could try, with session objects only;',
    `  - keep the token busy for about ${measures ? 10 : 4} seconds.`,
    'It never initialises a token, never logs in as security officer, never sets or changes a PIN, and',
    'uses and changes no other object.',
    '',
  ];
}

function selectorText({ slot, label, serial }: TokenSelector): string {
  const parts = [
    ...(slot === undefined ? [] : [`slot ${slot}`]),
    ...(label === undefined ? [] : [`label ${label}`]),
    ...(serial === undefined ? [] : [`serial ${serial}`]),
  ];
  return parts.length === 0 ? 'the only one of the module' : parts.join(', ');
}

/** Asks on the terminal; anything but `yes` is a no, Ctrl-C and the end of the input too. */
export async function confirmedOnTerminal(): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return (await terminal.question('Go on? Type yes: ')).trim() === 'yes';
  } catch {
    return false;
  } finally {
    terminal.close();
  }
}
