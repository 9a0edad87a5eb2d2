// Puts the parts that the server sends in the place of those that are shown. What is the same is left alone, so that
// focus, scrolling, what was opened or typed, and the bars' movement stay.

import { localise } from "./times.js";

const FOCUSABLE = "a[href], button, input, select, summary, [tabindex='0']";
const news = document.getElementById("news");

export function show(parts) {
  for (const [name, html] of Object.entries(parts)) {
    const place = document.getElementById(`part-${name}`);
    if (!place) continue;
    const template = document.createElement("template");
    template.innerHTML = html;
    localise(template.content);
    for (const each of template.content.querySelectorAll("[id][data-news]")) {
      if (!document.getElementById(each.id)) tell(each.dataset.news);
    }
    keepFocus(() => become(place, template.content));
  }
}

// The parts of a whole page.
export function partsOf(page) {
  return Object.fromEntries([...page.querySelectorAll("[id^=part-]")].map((part) => [part.id.slice(5), part.innerHTML]));
}

// Polite, and only what is worth being read out: that a job or a downstream is in another state.
function tell(text) {
  news.textContent = text;
}

function keepFocus(change) {
  const had = document.activeElement;
  const places = had ? placesOf(had) : [];
  change();
  if (!had || had.isConnected) return;
  const havens = [...places.map(inPlace), headingOf(places.at(-1).each)];
  havens.map(focusableOf).find(Boolean)?.focus({ preventScroll: true });
}

// The element and what is around it, up to its part, each with where it is.
function placesOf(element) {
  const places = [];
  for (let each = element; each.parentElement; each = each.parentElement) {
    places.push({ each, parent: each.parentElement, index: [...each.parentElement.children].indexOf(each) });
    if (each.id.startsWith("part-")) break;
  }
  return places;
}

// What is there now: itself, or what has come into its place, or the last beside it.
function inPlace({ each, parent, index }) {
  if (each.isConnected) return each;
  return parent.isConnected ? (parent.children[index] ?? parent.lastElementChild) : null;
}

function headingOf(part) {
  const heading = part.closest("section")?.querySelector("h2") ?? document.querySelector("h1");
  if (heading) heading.tabIndex = -1;
  return heading;
}

function focusableOf(haven) {
  if (!haven || haven.matches(`${FOCUSABLE}, [tabindex]`)) return haven;
  return [...haven.querySelectorAll(FOCUSABLE)].find((each) => each.checkVisibility());
}

// Makes `old` like `fresh`: first goes what is not wanted, so that what stays need not be moved to close the gaps.
function become(old, fresh) {
  const wanted = [...fresh.childNodes];
  const kept = pairs(old, wanted);
  const staying = new Set(kept.values());
  for (const child of [...old.childNodes]) if (!staying.has(child)) child.remove();
  let place = old.firstChild;
  for (const each of wanted) {
    const same = kept.get(each);
    if (same === place && same) place = place.nextSibling;
    else put(old, same ?? each, place);
    if (same) update(same, each);
  }
}

// Which child stays for which wanted one: that of the same id, else the next of the same kind.
function pairs(old, wanted) {
  const known = new Map();
  for (const child of old.childNodes) known.set(keyOf(child), [...(known.get(keyOf(child)) ?? []), child]);
  const found = wanted.map((each) => [each, known.get(keyOf(each))?.shift()]);
  return new Map(found.filter(([, same]) => same));
}

function keyOf(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return node.nodeName;
  return node.id ? `${node.nodeName}#${node.id}` : `${node.nodeName}.${node.classList[0] ?? ""}`;
}

// A node that is moved by moveBefore keeps its focus and its bar's movement; where browsers don't have it, it is put.
function put(parent, node, place) {
  if (node.parentNode === parent && parent.moveBefore) parent.moveBefore(node, place);
  else parent.insertBefore(node, place);
}

function update(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if ("own" in old.dataset) return; // what this script writes into it
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !isReaders(old, name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) set(old, name, value);
  become(old, fresh);
}

// Attributes in which the reader's own doing shows.
function isReaders(element, name) {
  if (element.nodeName === "DETAILS") return name === "open";
  return name === "tabindex" || (element.nodeName === "INPUT" && name === "value");
}

function set(element, name, value) {
  const isTyped = element === document.activeElement || element.value !== element.defaultValue;
  if (element.nodeName === "INPUT" && name === "value" && isTyped) return;
  if (name === "data-news") tell(value);
  element.setAttribute(name, value);
}
