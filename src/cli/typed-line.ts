/** A line that a person types at the terminal, such as a hash that was read out to him. */
import { createInterface } from 'node:readline/promises';

import { TwofoldError } from '../errors.ts';

const MOST_CHARACTERS = 1024;

/**
 * What is typed after `prompt`, which goes to standard error; waits for `withinMs` at most.
 * @throws TwofoldError invalid_value, with `otherwise`, where there is no terminal, nothing came in time, or
 *   it was too much
 */
export async function typedLine(
  prompt: string,
  { otherwise, withinMs }: { readonly otherwise: string; readonly withinMs: number },
): Promise<string> {
  const refused = () => new TwofoldError('invalid_value', otherwise);
  if (!process.stdin.isTTY) throw refused();
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const ending = new AbortController();
  const timer = setTimeout(() => ending.abort(), withinMs).unref();
  terminal.once('close', () => ending.abort());
  try {
    const line = await terminal.question(prompt, { signal: ending.signal });
    if (line.length > MOST_CHARACTERS) throw refused();
    return line;
  } catch (error) {
    if (ending.signal.aborted) throw refused();
    throw error;
  } finally {
    clearTimeout(timer);
    terminal.close();
  }
}
