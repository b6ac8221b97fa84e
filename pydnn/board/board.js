// Renews the live parts of a page: it asks for the same page again and changes what differs.
// Everything on the page comes from the server as HTML, so nothing here builds markup from text.
"use strict";
(() => {
  const main = document.querySelector("main");
  const connection = document.getElementById("connection");
  let last = "";
  let failed = 0;

  // Makes an element like a fresh one, and keeps what a person did: focus, open parts, checked boxes.
  function renew(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(document.importNode(fresh, true));
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    renewChildren(old, fresh);
  }

  function keyOf(node) {
    return node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key || "" : "";
  }

  function renewChildren(old, fresh) {
    const kept = new Map();
    for (const child of old.childNodes) {
      if (keyOf(child)) kept.set(keyOf(child), child);
    }
    let place = old.firstChild;
    for (const child of fresh.childNodes) {
      const key = keyOf(child);
      const same = key ? kept.get(key) : place && !keyOf(place) ? place : null;
      if (!same) {
        old.insertBefore(document.importNode(child, true), place);
        continue;
      }
      if (same === place) place = place.nextSibling;
      else old.insertBefore(same, place);
      renew(same, child);
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  function show(text) {
    if (text === last) return;
    last = text;
    const fresh = new DOMParser().parseFromString(text, "text/html");
    for (const part of fresh.querySelectorAll("[data-live]")) {
      const old = document.getElementById(part.id);
      if (old) renew(old, part);
    }
    document.title = fresh.title;
    const wait = fresh.querySelector("main").dataset.wait;
    if (wait) main.dataset.wait = wait;
  }

  async function ask() {
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      show(await answer.text());
      failed = 0;
      connection.textContent = "";
    } catch {
      failed += 1;
      if (failed === 3) {
        connection.textContent =
          "The board does not answer. Start pydnn board again, and this page goes on.";
      }
    }
  }

  async function go() {
    if (!document.hidden) await ask();
    setTimeout(go, Number(main.dataset.wait) * Math.min(1 + failed, 5));
  }

  if (main.dataset.wait) setTimeout(go, Number(main.dataset.wait));

  // With the script, the filter works while somebody types.
  const filter = document.getElementById("filter");
  if (filter) {
    let timer = 0;
    filter.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        const address = new URL(location.href);
        address.searchParams.set("q", filter.value);
        address.searchParams.delete("page");
        history.replaceState(null, "", address);
        ask();
      }, 250);
    });
  }
})();
