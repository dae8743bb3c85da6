// What the theme leaves out for readers who use a keyboard or a screen reader.
document.addEventListener("DOMContentLoaded", () => {
  const each = (what, act) => document.querySelectorAll(what).forEach(act);
  each("p.caption[role=heading]", (caption) => caption.setAttribute("aria-level", "2"));
  each("aside.sidebar-drawer", (drawer) => drawer.setAttribute("aria-label", "All pages"));
  each("aside.toc-drawer", (drawer) => drawer.setAttribute("aria-label", "On this page"));
  each("dt.sig > dl", (list) => {
    const lines = [...list.children].map((parameter) => {
      const line = document.createElement("div");
      line.append(...parameter.childNodes);
      return line;
    });
    list.replaceWith(...lines);
  });
  const reach = () => each("pre, .table-wrapper", (part) => {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
  });
  reach();
  addEventListener("resize", reach);
});
