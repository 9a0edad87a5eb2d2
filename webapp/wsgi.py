"""The application for a WSGI server; `python -m webapp` starts one with it."""

from config import logs
from config.settings import settings
from webapp import create_app, gateway
from webapp.stopping import when_asked_to_stop

logs.configure(settings().log_level, "web")
app = create_app(settings())
with app.app_context():
    when_asked_to_stop(gateway().lookout.stop)
