# The page in a container: not as root, pinned packages, nothing written but to /tmp.
#   docker build -t bcx .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --memory 6g --pids-limit 512 \
#       -p 127.0.0.1:7860:7860 bcx
# docs/how-to/run-it-safely.md says how to add a login and encryption.
FROM python:3.12-slim-bookworm

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    HF_HUB_OFFLINE=1 \
    HOME=/nonexistent \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860

WORKDIR /srv/bcx
COPY requirements.txt ./
RUN pip install -r requirements.txt
COPY demo.py LICENSE README.md ./
COPY bcx bcx
COPY checkpoints checkpoints
COPY examples examples

# A number without a name: no shell, no home, owner of nothing.
USER 10001:10001
EXPOSE 7860
# 401 is the answer of a page with a login.
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s CMD ["python", "-c", "import http.client, os; page = http.client.HTTPConnection('127.0.0.1', int(os.environ['GRADIO_SERVER_PORT']), timeout=8); page.request('GET', '/gradio_api/app_id'); raise SystemExit(page.getresponse().status not in (200, 401))"]
CMD ["python", "demo.py"]
