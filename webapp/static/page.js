// Keeps the page live: puts the parts that the server sends in the place of those that are shown. Everything else works
// without this.
"use strict";

(() => {
  const live = document.body.dataset.live;
  const link = document.getElementById("link");
  const linkText = document.getElementById("link-text");
  const news = document.getElementById("news");
  const trouble = document.getElementById("trouble");
  const POLL = 5000;
  // The server tells every 10 s that all is well.
  const SILENCE = 35000;
  let source = null;
  let poll = null;
  let heardAt = 0;

  // Instants in the reader's own time.
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const day = new Intl.DateTimeFormat(undefined, {
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  });
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

  function localise(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const instant = new Date(time.dateTime);
      if (Number.isNaN(instant.getTime())) continue;
      const isToday = instant.toDateString() === new Date().toDateString();
      time.textContent = (time.dataset.show === "day" && !isToday ? day : clock).format(instant);
      time.title = full.format(instant);
    }
  }

  // Makes `old` like `fresh` and leaves alone what is the same, so that focus, what was opened or typed, and the bars'
  // movement stay. Elements with an id are known by it.
  function become(old, fresh) {
    const known = new Map();
    for (const child of old.children) if (child.id) known.set(child.id, child);
    let place = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      const kept = match(place, wanted, known);
      if (kept) {
        if (kept !== place) old.insertBefore(kept, place);
        place = kept.nextSibling;
        if (kept.nodeType === Node.ELEMENT_NODE) update(kept, wanted);
        else if (kept.nodeValue !== wanted.nodeValue) kept.nodeValue = wanted.nodeValue;
      } else {
        old.insertBefore(wanted, place);
      }
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  function match(place, wanted, known) {
    if (wanted.id) {
      const same = known.get(wanted.id);
      return same && same.nodeName === wanted.nodeName ? same : null;
    }
    return place && !place.id && place.nodeType === wanted.nodeType && place.nodeName === wanted.nodeName ? place : null;
  }

  function update(old, fresh) {
    const isMine = (name) => (old.nodeName === "DETAILS" && name === "open") || (old.nodeName === "INPUT" && name === "value");
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !isMine(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) === value) continue;
      if (old.nodeName === "INPUT" && name === "value" && (old === document.activeElement || old.value !== old.defaultValue)) continue;
      if (name === "data-news") tell(value);
      old.setAttribute(name, value);
    }
    become(old, fresh);
  }

  // Polite, and only what is worth being read out: that a job or a lane is in another state.
  function tell(text) {
    news.textContent = text;
  }

  function show(parts) {
    for (const [name, html] of Object.entries(parts)) {
      const place = document.getElementById(`part-${name}`);
      if (!place) continue;
      const template = document.createElement("template");
      template.innerHTML = html;
      localise(template.content);
      for (const each of template.content.querySelectorAll("[id][data-news]")) {
        if (!document.getElementById(each.id)) tell(each.dataset.news);
      }
      become(place, template.content);
    }
  }

  function say(state, text) {
    link.hidden = false;
    link.dataset.state = state;
    if (linkText.textContent !== text) linkText.textContent = text;
  }

  function complain(text) {
    trouble.hidden = !text;
    if (trouble.textContent !== text) trouble.textContent = text;
  }

  function heard() {
    heardAt = performance.now();
    say("live", "Live");
  }

  function listen() {
    stop();
    heardAt = performance.now();
    source = new EventSource(live);
    source.addEventListener("parts", (event) => {
      complain("");
      heard();
      show(JSON.parse(event.data));
    });
    source.addEventListener("beat", heard);
    source.addEventListener("trouble", (event) => {
      heard();
      complain(event.data);
    });
    source.addEventListener("bye", (event) => {
      stop();
      if (event.data === "end") say("still", "Final");
      else location.reload();
    });
    source.addEventListener("error", () => {
      say("lost", "Reconnecting…");
      // A browser gives up when it is answered with an error: then the page is asked for itself, now and then.
      if (source && source.readyState === EventSource.CLOSED) {
        stop();
        poll = setTimeout(ask, POLL);
      }
    });
  }

  function stop() {
    source?.close();
    source = null;
    clearTimeout(poll);
    poll = null;
  }

  async function ask() {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected || answer.status === 404) return location.reload();
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const parts = [...page.querySelectorAll("[id^=part-]")].map((part) => [part.id.slice(5), part.innerHTML]);
        show(Object.fromEntries(parts));
        say("live", "Live");
        if (document.visibilityState === "visible") listen();
        return undefined;
      }
    } catch {
      // The server is away: asked again below.
    }
    say("lost", "Reconnecting…");
    poll = setTimeout(ask, POLL);
    return undefined;
  }

  // An error page comes back by itself as soon as the page can be had again.
  async function comeBack() {
    try {
      if ((await fetch(location.href, { method: "HEAD" })).ok) return location.reload();
    } catch {
      // The server is away: asked again below.
    }
    setTimeout(comeBack, POLL);
    return undefined;
  }

  localise(document);
  if ("again" in document.body.dataset) setTimeout(comeBack, POLL);
  if (!live || !("EventSource" in window)) return;
  // A hidden page holds nothing open: browsers have few connections to one host, and nobody looks.
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") {
      stop();
      say("still", "");
    } else if (!source) {
      listen();
    }
  });
  addEventListener("pagehide", stop);
  setInterval(() => {
    if (source && performance.now() - heardAt > SILENCE) {
      say("lost", "Reconnecting…");
      listen();
    }
  }, POLL);
  if (document.visibilityState === "visible") listen();
})();
