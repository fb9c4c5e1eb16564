/** HTML by tagged template: every value that is not itself markup is escaped. */

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

const escaped = (text: string): string =>
  text.replace(/[&<>"']/gu, (character) => ENTITIES[character] ?? '');

/** HTML that may stand as it is: made by `html`, or a constant of the program. */
export class Markup {
  readonly text: string;

  private constructor(text: string) {
    this.text = text;
  }

  /** A literal of the program; never anything that was computed from data. */
  static constant(literal: string): Markup {
    return new Markup(literal);
  }

  /** @internal for `html` */
  static joined(literals: readonly string[], parts: readonly Part[]): Markup {
    return new Markup(String.raw({ raw: literals }, ...parts.map(textOf)));
  }
}

export type Part = string | number | Markup | readonly Part[];

function textOf(part: Part): string {
  if (part instanceof Markup) return part.text;
  if (typeof part === 'string') return escaped(part);
  return typeof part === 'number' ? String(part) : part.map(textOf).join('');
}

/** For text between tags and for attribute values in quotes. */
export const html = (literals: TemplateStringsArray, ...parts: readonly Part[]): Markup =>
  Markup.joined(literals, parts);

export const NOTHING = Markup.constant('');
