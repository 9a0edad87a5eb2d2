"""The application for a WSGI server: `granian --interface wsgi webapp.wsgi:app`."""

from config import logs
from config.settings import settings
from webapp import create_app

logs.configure(settings().log_level, "web")
app = create_app(settings())
