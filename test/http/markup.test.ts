import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { Markup, NOTHING, html } from '../../src/http/markup.ts';

describe('markup', () => {
  it('escapes what is not markup, in text and in attributes', () => {
    const value = `<script>"&'`;
    expect(html`<p title="${value}">${value}</p>`.text).toBe(
      '<p title="&lt;script&gt;&quot;&amp;&#39;">&lt;script&gt;&quot;&amp;&#39;</p>',
    );
  });

  it('leaves markup, joins lists, writes numbers', () => {
    const items = [1, 2].map((number) => html`<li>${number}</li>`);
    expect(html`${items}${NOTHING}${Markup.constant('<hr>')}`.text).toBe(
      '<li>1</li><li>2</li><hr>',
    );
  });

  it('lets no text become a tag or end an attribute', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const inside = html`${text}`.text;
        expect(inside).not.toMatch(/[<>"']/u);
        const back = inside
          .replaceAll('&lt;', '<')
          .replaceAll('&gt;', '>')
          .replaceAll('&quot;', '"')
          .replaceAll('&#39;', "'")
          .replaceAll('&amp;', '&');
        expect(back).toBe(text);
      }),
    );
  });
});
