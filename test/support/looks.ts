/// <reference lib="dom" />
import type { Page } from "playwright-core";

/** How many different colours a picture has. */
export function coloursIn(page: Page, png: Buffer): Promise<number> {
  return page.evaluate(
    async (bytes) => {
      // Not as a data: URL, which a page's policy may forbid.
      const image = await createImageBitmap(
        new Blob([Uint8Array.from(bytes)], { type: "image/png" }),
      );
      const canvas = document.createElement("canvas");
      canvas.width = image.width;
      canvas.height = image.height;
      const context = canvas.getContext("2d");
      context?.drawImage(image, 0, 0);
      const { width, height } = image;
      const pixels = context?.getImageData(0, 0, width, height).data;
      const seen = new Set<number>();
      for (let i = 0; pixels && i < pixels.length; i += 4)
        seen.add(
          ((pixels[i] ?? 0) << 16) |
            ((pixels[i + 1] ?? 0) << 8) |
            (pixels[i + 2] ?? 0),
        );
      return seen.size;
    },
    [...png],
  );
}

/** Texts of drawings that reach beyond them. */
export function cutTexts(page: Page): Promise<(string | null)[]> {
  return page.locator("svg").evaluateAll((all) =>
    all.flatMap((svg) => {
      const box = svg.getBoundingClientRect();
      return Array.from(svg.querySelectorAll("text"))
        .filter((text) => {
          const { left, right, top, bottom } = text.getBoundingClientRect();
          return (
            left < box.left - 1 ||
            right > box.right + 1 ||
            top < box.top - 1 ||
            bottom > box.bottom + 1
          );
        })
        .map((text) => text.textContent);
    }),
  );
}

export interface Inked {
  text: string;
  /** WCAG 2's contrast of the text to what is behind it, 1 to 21. */
  contrast: number;
}

/** The luminance of the page's paper, and the contrast of each element's text to its background. */
export function contrasts(
  page: Page,
  selector: string,
): Promise<{ paper: number; texts: Inked[] }> {
  return page.evaluate((selected) => {
    const rgba = (value: string): number[] =>
      (value.match(/[\d.]+/g) ?? []).map(Number);
    const luminance = (colour: string): number => {
      const [r, g, b] = rgba(colour).map((part) => {
        const c = part / 255;
        return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * (r ?? 0) + 0.7152 * (g ?? 0) + 0.0722 * (b ?? 0);
    };
    const behind = (element: Element | null): string => {
      if (element === null) return "rgb(255, 255, 255)";
      const { backgroundColor } = getComputedStyle(element);
      return rgba(backgroundColor)[3] === 0
        ? behind(element.parentElement)
        : backgroundColor;
    };
    const texts = Array.from(document.querySelectorAll(selected))
      .filter(
        (element) =>
          element.getClientRects().length > 0 &&
          (element.textContent !== "" || element.matches("input, textarea")),
      )
      .map((element) => {
        const { color, fill } = getComputedStyle(element);
        const ink = luminance(element instanceof SVGElement ? fill : color);
        const paper = luminance(behind(element));
        return {
          text: element.textContent ?? "",
          contrast:
            (Math.max(paper, ink) + 0.05) / (Math.min(paper, ink) + 0.05),
        };
      });
    return { paper: luminance(behind(document.body)), texts };
  }, selector);
}
