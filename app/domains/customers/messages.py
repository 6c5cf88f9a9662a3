"""What customers read, in English and Vietnamese: refusals and notifications. No other text leaves in two languages."""

import re
from collections.abc import Mapping
from typing import Any, Final

from app.domains.customers.models import Language

_RANGE: Final = re.compile(
    r"\s*([A-Za-z]{1,8}|\*)(?:-[A-Za-z0-9-]{1,32})?\s*(?:;\s*q=([01](?:\.\d{0,3})?))?\s*\Z"
)

REFUSALS: Final[Mapping[str, Mapping[Language, str]]] = {
    "system-busy": {
        "en": "the system is busy: try again in {seconds} s, or upgrade your plan to wait in line",
        "vi": "Hệ thống đang bận: hãy thử lại sau {seconds} giây, hoặc nâng gói để được xếp hàng chờ",
    },
    "rate-limited": {
        "en": "more than {limit} requests within a minute: try again in {seconds} s",
        "vi": "Vượt quá {limit} yêu cầu mỗi phút: hãy thử lại sau {seconds} giây",
    },
    "quota-exceeded": {
        "en": "today's quota of {limit} jobs is used up: it begins again in {seconds} s, or upgrade your plan",
        "vi": "Đã dùng hết hạn mức {limit} tác vụ của hôm nay: bắt đầu lại sau {seconds} giây, hoặc hãy nâng gói",
    },
}
SUBJECTS: Final[Mapping[str, Mapping[Language, str]]] = {
    "job-succeeded": {"en": "Job {job_id} is done", "vi": "Tác vụ {job_id} đã hoàn thành"},
    "job-failing": {
        "en": "Job {job_id} fails ({error_class}) and is tried again",
        "vi": "Tác vụ {job_id} gặp lỗi ({error_class}) và sẽ được thử lại",
    },
    "job-dead": {
        "en": "Job {job_id} has failed for good ({error_class})",
        "vi": "Tác vụ {job_id} đã thất bại hẳn ({error_class})",
    },
    "job-expired": {
        "en": "Job {job_id} waited longer than your plan allows and was not run",
        "vi": "Tác vụ {job_id} đã chờ quá thời gian cho phép của gói và không được chạy",
    },
    "job-cancelled": {"en": "Job {job_id} is cancelled", "vi": "Tác vụ {job_id} đã bị hủy"},
    "quota-warning": {
        "en": "{percent} % of today's quota is used ({accepted} of {quota} jobs)",
        "vi": "Đã dùng {percent} % hạn mức hôm nay ({accepted}/{quota} tác vụ)",
    },
    "upgrade-suggested": {
        "en": "You often reach your quota: the plan {tier} gives you {offered} jobs a day",
        "vi": "Bạn thường xuyên dùng hết hạn mức: gói {tier} cho bạn {offered} tác vụ mỗi ngày",
    },
}
UNLIMITED: Final[Mapping[Language, str]] = {"en": "unlimited", "vi": "không giới hạn"}


def preferred(accept_language: str | None, otherwise: Language = "en") -> Language:
    """The language an Accept-Language header prefers (RFC 9110, section 12.5.4); a header that makes no sense: none."""
    best: tuple[float, Language] | None = None
    for part in (accept_language or "")[:500].split(","):
        found = _RANGE.match(part)
        if found is None:
            continue
        quality = float(found[2]) if found[2] else 1.0
        name = found[1].lower()
        language: Language | None = otherwise if name == "*" else name if name in ("en", "vi") else None  # type: ignore[assignment]
        if language is not None and quality > 0 and (best is None or quality > best[0]):
            best = (quality, language)
    return best[1] if best else otherwise


def refusal(code: str, language: Language, **facts: Any) -> str:
    """The text of a refusal."""
    return REFUSALS[code][language].format(**facts)


def subject(topic: str, language: Language, facts: Mapping[str, Any]) -> str:
    """One line that says what a notification is about."""
    told = {name: UNLIMITED[language] if value is None else value for name, value in facts.items()}
    return SUBJECTS[topic][language].format(**told)


INVOICE: Final[Mapping[Language, Mapping[str, Any]]] = {
    "en": {
        "title": "Invoice",
        "preview": "(preview)",
        "customer": "Customer",
        "month": "Month",
        "issued": "Issued",
        "what": "What",
        "tier": "Plan",
        "quantity": "Quantity",
        "price": "Price",
        "amount": "Amount",
        "total": "Total",
        "uses": {
            "fee": "Monthly fee",
            "job": "Jobs",
            "overage": "Jobs over the quota",
            "run_ms": "Run time (ms)",
        },
    },
    "vi": {
        "title": "Hóa đơn",
        "preview": "(bản xem trước)",
        "customer": "Khách hàng",
        "month": "Tháng",
        "issued": "Ngày phát hành",
        "what": "Nội dung",
        "tier": "Gói",
        "quantity": "Số lượng",
        "price": "Đơn giá",
        "amount": "Thành tiền",
        "total": "Tổng cộng",
        "uses": {
            "fee": "Phí tháng",
            "job": "Tác vụ",
            "overage": "Tác vụ vượt hạn mức",
            "run_ms": "Thời gian chạy (ms)",
        },
    },
}
