/** Arguments of a command: declared flags only, each at most once, nothing positional left over. */
import { TwofoldError } from '../errors.ts';

/** `value` takes one, `list` may be repeated, `switch` takes none. */
export type FlagKind = 'value' | 'list' | 'switch';
export type Flags = Readonly<Record<string, FlagKind>>;

export interface ParsedFlags {
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly positional: readonly string[];
}

const refuse = (detail: string) => new TwofoldError('invalid_value', detail);

/**
 * Parses `--name value` and `--name=value`.
 * @throws TwofoldError invalid_value for a flag that is not declared, repeated or without its value
 */
export function parseFlags(argv: readonly string[], declared: Flags): ParsedFlags {
  const values = new Map<string, string[]>();
  const positional: string[] = [];
  for (let index = 0; index < argv.length; index++) {
    const argument = argv[index] ?? '';
    const [, name, inline] = /^--([a-z][a-z-]*)(?:=(.*))?$/su.exec(argument) ?? [];
    if (name === undefined) {
      if (argument.startsWith('-')) throw refuse(`${argument} is not a flag that we know.`);
      positional.push(argument);
      continue;
    }
    const kind = Object.hasOwn(declared, name) ? declared[name] : undefined;
    if (kind === undefined) throw refuse(`--${name} is not a flag of this command.`);
    const seen = values.get(name) ?? [];
    if (seen.length > 0 && kind !== 'list') throw refuse(`--${name} is given twice.`);
    if (kind === 'switch' && inline !== undefined) throw refuse(`--${name} takes no value.`);
    const value = kind === 'switch' ? '' : (inline ?? argv[++index]);
    if (value === undefined || (kind !== 'switch' && value === '')) {
      throw refuse(`--${name} needs a value.`);
    }
    values.set(name, [...seen, value]);
  }
  return { values, positional };
}

/** @throws TwofoldError invalid_value when arguments are left that no flag took */
export function requireNothingMore({ positional }: ParsedFlags): void {
  const [first] = positional;
  if (first !== undefined) throw refuse(`${first} is not an argument of this command.`);
}

/** The value of a flag that is given once at most. */
export const one = ({ values }: ParsedFlags, name: string): string | undefined =>
  values.get(name)?.[0];
